import { writeSync } from 'node:fs';
import { SecretMask } from '../secret-mask.ts';

/** Room for the last line of a log that was cut. */
const NOTICE_BYTES_MAX = 128;

/**
 * The log of one attempt, in a file. What is beyond its limit, or does not fit on the disk, is dropped,
 * so that a job is never held up by its log; the last line then says so. Writes wait for the disk, and so
 * does whoever floods: nothing piles up in memory.
 */
export class JobLog {
  readonly #file: number;
  readonly #bytesMax: number;
  readonly #onGrowth: () => void;
  #bytes = 0;
  #droppedBytes = 0;

  constructor(file: number, bytesMax: number, onGrowth: () => void) {
    this.#file = file;
    this.#bytesMax = bytesMax;
    this.#onGrowth = onGrowth;
  }

  /** What a job writes to one of its streams; secrets in it are masked. */
  stream(secrets: readonly Buffer[]): { write(chunk: Uint8Array): void; end(): void } {
    const mask = new SecretMask(secrets);
    return {
      write: chunk => this.#write(mask.push(chunk)),
      end: () => {
        this.#write(mask.end());
        mask.wipe();
      },
    };
  }

  /** After the last stream. */
  end(): void {
    if (this.#droppedBytes === 0) return;
    // Its room was kept free.
    this.#append(
      Buffer.from(
        `\n[halfway] the log is cut here: ${this.#droppedBytes} bytes more were written\n`,
      ),
    );
  }

  #write(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const room = Math.max(0, this.#bytesMax - NOTICE_BYTES_MAX - this.#bytes);
    const kept = this.#droppedBytes > 0 ? bytes.subarray(0, 0) : bytes.subarray(0, room);
    const isKept = kept.length === 0 || this.#append(kept);
    this.#droppedBytes += bytes.length - (isKept ? kept.length : 0);
  }

  #append(bytes: Buffer): boolean {
    try {
      let at = 0;
      while (at < bytes.length) {
        const written = writeSync(this.#file, bytes, at);
        at += written;
        this.#bytes += written;
      }
    } catch {
      // The disk is full or broken. The job goes on, and its log ends here.
      return false;
    }
    this.#onGrowth();
    return true;
  }
}
