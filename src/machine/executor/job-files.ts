import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import * as v from 'valibot';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import { progressReportSchema, type ProgressReport } from './messages.ts';

const POLL_MS = 250;
const LINE_BYTES_MAX = 8 * 1024;
const READ_BYTES = 64 * 1024;

const outputsSchema = v.record(v.string(), v.unknown());

export type OutputsRead =
  | { readonly type: 'outputs'; readonly outputs: Readonly<Record<string, unknown>> | undefined }
  | { readonly type: 'too-large' }
  | { readonly type: 'malformed'; readonly why: string };

/** Reads the file in which a job leaves its outputs: a JSON object, or nothing. */
export function readOutputs(path: string, bytesMax: number): OutputsRead {
  const file = openRegular(path);
  if (file === undefined) return { type: 'outputs', outputs: undefined };
  try {
    const { size } = fstatSync(file);
    if (size > bytesMax) return { type: 'too-large' };
    const text = readAt(file, 0, size).toString('utf8');
    if (text.trim() === '') return { type: 'outputs', outputs: undefined };
    const parsed = v.safeParse(outputsSchema, parseJson(text));
    if (!parsed.success) return { type: 'malformed', why: 'they are not a JSON object' };
    return { type: 'outputs', outputs: parsed.output };
  } finally {
    closeSync(file);
  }
}

/**
 * Watches the file to which a job appends its progress, a line of JSON each, and tells the latest. Lines
 * that are none are passed over. The returned function looks a last time and stops.
 */
export function watchProgress(
  path: string,
  clock: Clock,
  onProgress: (report: ProgressReport) => void,
): () => void {
  let offset = 0;
  let cancel: CancelTimer | undefined;
  const look = (): void => {
    const file = openRegular(path);
    if (file === undefined) return;
    try {
      let latest: ProgressReport | undefined;
      for (;;) {
        const bytes = readAt(file, offset, READ_BYTES);
        const end = bytes.lastIndexOf('\n') + 1;
        // A line without end may get one; one that is too long never was progress.
        if (end === 0 && bytes.length <= LINE_BYTES_MAX) break;
        for (const line of bytes.toString('utf8', 0, end).split('\n')) {
          const parsed = v.safeParse(progressReportSchema, parseJson(line));
          if (parsed.success) latest = parsed.output;
        }
        offset += end === 0 ? bytes.length : end;
      }
      if (latest !== undefined) onProgress(latest);
    } finally {
      closeSync(file);
    }
  };
  const again = (): void => {
    look();
    cancel = clock.after(POLL_MS, again);
  };
  cancel = clock.after(POLL_MS, again);
  return () => {
    cancel?.();
    look();
  };
}

/** Undefined: there is none, or it is something that would hold up whoever reads it. */
function openRegular(path: string): number | undefined {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  return undefined;
}

function readAt(file: number, offset: number, bytesMax: number): Buffer {
  const bytes = Buffer.alloc(bytesMax);
  let length = 0;
  for (;;) {
    const read = readSync(file, bytes, length, bytesMax - length, offset + length);
    length += read;
    if (read === 0 || length === bytesMax) return bytes.subarray(0, length);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
