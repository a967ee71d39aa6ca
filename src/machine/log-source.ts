import { open } from 'node:fs/promises';
import type { LogMask } from './log-mask.ts';
import { sizeOf } from './run-folder.ts';

/** What is uploaded of a log. */
export interface LogSource {
  /** Where the upload begins; from then on where the control plane is. */
  readonly startOffset: number;
  /**
   * What there is from `offset` on, at most a chunk. Empty: nothing yet, or when the log `isComplete`, no more.
   */
  read(offset: number, isComplete: boolean): Promise<Buffer>;
}

/** The log's file without its secrets, byte for byte as long. */
export class MaskedLog implements LogSource {
  readonly startOffset = 0;
  readonly #path: string;
  readonly #chunkBytes: number;
  readonly #mask: LogMask;

  constructor(path: string, chunkBytes: number, mask: LogMask) {
    this.#path = path;
    this.#chunkBytes = chunkBytes;
    this.#mask = mask;
  }

  async read(offset: number, isComplete: boolean): Promise<Buffer> {
    let file;
    try {
      file = await open(this.#path, 'r');
    } catch {
      // Not written yet.
      return Buffer.alloc(0);
    }
    try {
      const { marginBytes } = this.#mask;
      const before = Math.min(offset, marginBytes);
      const bytes = Buffer.alloc(before + this.#chunkBytes + marginBytes);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset - before);
      const shown = this.#mask.shown(bytes.subarray(0, bytesRead), isComplete);
      return shown.subarray(before, before + this.#chunkBytes);
    } finally {
      await file.close();
    }
  }
}

const WITHHELD = Buffer.from(
  '\n[halfway] the rest of the log is withheld: the password to be masked in it cannot be opened any more\n',
);

/**
 * In place of a log whose secrets are not known any more. When the log is complete and the control plane does not
 * have all of it, one line that says so.
 */
export class WithheldLog implements LogSource {
  /** Behind a gap: nothing is taken there, and the answer says where the control plane is. */
  readonly startOffset = Number.MAX_SAFE_INTEGER - WITHHELD.length;
  readonly #path: string;
  #saidAt: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async read(offset: number, isComplete: boolean): Promise<Buffer> {
    const size = isComplete ? await sizeOf(this.#path) : 0;
    const isAsking = offset === this.startOffset && size > 0;
    const wasSaid = this.#saidAt !== undefined && offset === this.#saidAt + WITHHELD.length;
    if (!isAsking && (wasSaid || offset >= size)) return Buffer.alloc(0);
    this.#saidAt = offset;
    return WITHHELD;
  }
}
