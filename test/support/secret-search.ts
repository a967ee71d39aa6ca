import { openSync, closeSync, readFileSync, readSync } from 'node:fs';
import { constants, inflateRawSync } from 'node:zlib';
import { spellingsOf } from './spellings.ts';

/**
 * Ways in which bytes hold a secret: the spellings of `spellingsOf`, those under the mask of a WebSocket client, and
 * those in what was packed by gzip. Empty: none.
 */
export function tracesOf(secret: string, bytes: Uint8Array): readonly string[] {
  const plain = plainTraces(secret, bytes);
  const masked = maskedTraces(secret, bytes);
  const packed = gzipMembers(bytes).flatMap(member =>
    plainTraces(secret, member).map(name => `${name}, in gzip`),
  );
  return [...plain, ...masked, ...packed];
}

/** Of the spellings alone: for much that is neither sent nor packed. */
export function plainTraces(secret: string, bytes: Uint8Array): readonly string[] {
  return new SecretSearch([secret]).in(bytes).get(secret) ?? [];
}

/** Looks for all spellings of several secrets at once: all bytes are looked at once, however many there are. */
export class SecretSearch {
  readonly #spellings: readonly {
    readonly secret: string;
    readonly name: string;
    readonly bytes: Buffer;
  }[];
  /** By the first four bytes of spellings: which of them begin so. */
  readonly #beginnings = new Map<number, number[]>();
  /** By part of these four bytes: whether any begins so. */
  readonly #filter = new Uint8Array(FILTER_MASK + 1);

  constructor(secrets: readonly string[]) {
    this.#spellings = secrets.flatMap(secret =>
      [...spellingsOf(secret)].map(([name, bytes]) => ({ secret, name, bytes })),
    );
    for (const [index, { bytes }] of this.#spellings.entries()) {
      const beginning = bytes.readUInt32BE();
      this.#beginnings.set(beginning, [...(this.#beginnings.get(beginning) ?? []), index]);
      this.#filter[filtered(beginning)] = 1;
    }
  }

  /** By each secret how it is spelt in these bytes; those that are nowhere have no entry. */
  in(bytes: Uint8Array): ReadonlyMap<string, readonly string[]> {
    const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const found = new Set<number>();
    let last4 = 0;
    for (let at = 0; at < haystack.length; at += 1) {
      last4 = (last4 << 8) | (haystack[at] ?? 0);
      if (this.#filter[filtered(last4)] === 0) continue;
      for (const index of this.#beginnings.get(last4 >>> 0) ?? []) {
        const spelling = this.#spellings[index]?.bytes ?? haystack;
        const from = at - 3;
        if (from < 0) continue;
        if (haystack.subarray(from, from + spelling.length).equals(spelling)) found.add(index);
      }
    }
    const names = new Map<string, string[]>();
    for (const [index, { secret, name }] of this.#spellings.entries()) {
      if (found.has(index)) names.set(secret, [...(names.get(secret) ?? []), name]);
    }
    return names;
  }
}

const FILTER_MASK = 0xff_ff;

function filtered(beginning: number): number {
  return (beginning ^ (beginning >>> 13)) & FILTER_MASK;
}

/**
 * A mask of four bytes is the same in each four: it is gone from the difference between a byte and the one four before.
 * That difference of the secret is looked for in those of the bytes, whatever the mask was.
 */
function maskedTraces(secret: string, bytes: Uint8Array): readonly string[] {
  const differences = differencesOf(bytes);
  return [...spellingsOf(secret)]
    .filter(([, spelling]) => differences.includes(differencesOf(spelling)))
    .map(([name]) => `${name}, masked`);
}

function differencesOf(bytes: Uint8Array): Buffer {
  const differences = Buffer.alloc(Math.max(0, bytes.length - MASK_BYTES));
  for (let at = 0; at < differences.length; at += 1) {
    differences[at] = (bytes[at] ?? 0) ^ (bytes[at + MASK_BYTES] ?? 0);
  }
  return differences;
}

const MASK_BYTES = 4;
/** Deflate, and nothing further in the header. */
const GZIP_START = Buffer.of(0x1f, 0x8b, 0x08, 0);
const GZIP_HEADER_BYTES = 10;

/** What is packed in the bytes, wherever it begins, as far as it goes. */
function gzipMembers(bytes: Uint8Array): readonly Buffer[] {
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const members: Buffer[] = [];
  for (let at = haystack.indexOf(GZIP_START); at !== -1;) {
    try {
      const cut = { finishFlush: constants.Z_SYNC_FLUSH };
      members.push(inflateRawSync(haystack.subarray(at + GZIP_HEADER_BYTES), cut));
    } catch {
      // Bytes that looked like it.
    }
    at = haystack.indexOf(GZIP_START, at + 1);
  }
  return members;
}

/** Read at once; parts overlap by what a spelling has at most. */
const PART_BYTES = 16 * 1024 * 1024;
const OVERLAP_BYTES = 1_024;

/** The same for all that a process may write to in its memory, as a core dump would have it. */
export function searchMemory(pid: number, search: SecretSearch): ReadonlyMap<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const part = Buffer.alloc(PART_BYTES);
  try {
    for (const [from, to] of writableRegions(pid)) {
      for (let at = from; at < to; at += PART_BYTES - OVERLAP_BYTES) {
        const length = readAt(memory, part, Math.min(PART_BYTES, to - at), at);
        for (const [secret, names] of search.in(part.subarray(0, length))) {
          found.set(secret, new Set([...(found.get(secret) ?? []), ...names]));
        }
      }
    }
  } finally {
    closeSync(memory);
  }
  return found;
}

function readAt(file: number, into: Buffer, length: number, at: number): number {
  try {
    return readSync(file, into, 0, length, at);
  } catch {
    // Given back meanwhile, or the kernel's own.
    return 0;
  }
}

/** Those that have something in memory. */
function writableRegions(pid: number): readonly (readonly [from: number, to: number])[] {
  const regions: (readonly [number, number])[] = [];
  let region: readonly [number, number] | undefined;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    const [, from, to, mode] = /^([\da-f]+)-([\da-f]+) (\S+)/.exec(line) ?? [];
    if (from !== undefined && to !== undefined) {
      region = mode?.startsWith('rw') === true ? [parseInt(from, 16), parseInt(to, 16)] : undefined;
    } else if (/^Rss: +[1-9]/.test(line) && region !== undefined) regions.push(region);
  }
  return regions;
}
