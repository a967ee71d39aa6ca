import type { Outcome } from './executor/messages.ts';
import type { LogUpload } from './log-upload.ts';
import type { Attempt } from './ports.ts';
import { reportResult } from './report-result.ts';
import { pause } from './retry.ts';
import type { RunFolder } from './run-folder.ts';
import type { RunTools } from './run-tools.ts';

/** How long a result waits for the last of its log. */
const LAST_LOG_MS = 5_000;
/** Between two tries to write to a disk that takes nothing. */
export const WRITE_AGAIN_MS = 5_000;

interface EndedRun {
  readonly about: Attempt;
  readonly end: Outcome;
  readonly folder: RunFolder;
  readonly upload: LogUpload;
}

/**
 * Writes down how an attempt ended, and tells it until it is acknowledged or `signal` is aborted. A disk that
 * takes nothing does not keep it from being told: then it is in memory alone until then.
 */
export async function deliverEnd(
  { about, end, folder, upload }: EndedRun,
  tools: RunTools,
  signal: AbortSignal,
): Promise<void> {
  const { journal, reporter, clock, log, retryDelayMs: delayMs } = tools;
  const delivered = new AbortController();
  const either = AbortSignal.any([delivered.signal, signal]);
  const written = writeEnd({ about, end, folder, upload }, tools, either);
  upload.complete();
  const late = new AbortController();
  await Promise.race([upload.done, pause(clock, LAST_LOG_MS, late.signal)]);
  late.abort();
  const accountName = journal.entry(about)?.launched?.accountName;
  const result = {
    v: 1,
    type: 'result',
    ...about,
    ...end,
    ...(accountName === undefined ? {} : { accountName }),
    logBytes: await folder.logBytes(),
  } as const;
  await reportResult(result, { reporter, clock, log, signal, delayMs });
  delivered.abort();
  await written;
}

async function writeEnd(
  { about, end, folder }: EndedRun,
  { journal, clock, log }: RunTools,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await folder.writeEnd(end);
      if (await journal.tryWrite({ type: 'RESULT', ...about })) return;
    } catch (error) {
      log.error({ ...about, err: error }, 'a result could not be written down');
    }
    await pause(clock, WRITE_AGAIN_MS, signal);
  }
}
