import { writeSync } from 'node:fs';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import { SecretMask } from '../secret-mask.ts';

/** Room for the last line of a log that was cut. */
const NOTICE_BYTES_MAX = 128;
const NEWLINE = 0x0a;
/** For so long, and for so many bytes, one stream waits for the other to end its line. */
const LINE_WAIT_MS = 1_000;
const WAITING_BYTES_MAX = 64 * 1024;

/** What a job writes to one of its streams. */
interface JobStream {
  write(chunk: Uint8Array): void;
  end(): void;
}

/**
 * The log of one attempt, in a file. What is beyond its limit, or does not fit on the disk, is dropped,
 * so that a job is never held up by its log; the last line then says so. Writes wait for the disk, and so
 * does whoever floods: nothing piles up in memory. One stream does not tear a line of another that comes to
 * its end within a second: in a torn line the service would not find the password that it is to mask.
 */
export class JobLog {
  readonly #file: number;
  readonly #bytesMax: number;
  readonly #clock: Clock;
  readonly #onGrowth: () => void;
  /** Whose line has begun and not ended. */
  #unfinished: JobStream | undefined;
  /** What the other stream wrote meanwhile. */
  #waiting: { readonly stream: JobStream; readonly bytes: Buffer }[] = [];
  #waitingBytes = 0;
  #cancelWait: CancelTimer = () => {};
  #bytes = 0;
  #droppedBytes = 0;

  constructor(file: number, bytesMax: number, clock: Clock, onGrowth: () => void) {
    this.#file = file;
    this.#bytesMax = bytesMax;
    this.#clock = clock;
    this.#onGrowth = onGrowth;
  }

  /** Secrets in what is written to it are masked. */
  stream(secrets: readonly Buffer[]): JobStream {
    const mask = new SecretMask(secrets);
    const stream: JobStream = {
      write: chunk => this.#take(stream, mask.push(chunk)),
      end: () => {
        this.#take(stream, mask.end());
        if (this.#unfinished === stream) this.#writeWaiting();
        mask.wipe();
      },
    };
    return stream;
  }

  /** After the last stream. */
  end(): void {
    this.#writeWaiting();
    if (this.#droppedBytes === 0) return;
    // Its room was kept free.
    this.#append(
      Buffer.from(
        `\n[halfway] the log is cut here: ${this.#droppedBytes} bytes more were written\n`,
      ),
    );
  }

  #take(stream: JobStream, bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (this.#unfinished === undefined || this.#unfinished === stream) {
      this.#write(bytes);
      this.#unfinished = stream;
      if (bytes.at(-1) === NEWLINE) this.#writeWaiting();
      return;
    }
    if (this.#waiting.length === 0) {
      this.#cancelWait = this.#clock.after(LINE_WAIT_MS, () => this.#writeWaiting());
    }
    this.#waiting.push({ stream, bytes });
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes > WAITING_BYTES_MAX) this.#writeWaiting();
  }

  /** No line is waited for any longer. */
  #writeWaiting(): void {
    this.#cancelWait();
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#unfinished = undefined;
    for (const { stream, bytes } of waiting) this.#take(stream, bytes);
  }

  #write(bytes: Buffer): void {
    const room = Math.max(0, this.#bytesMax - NOTICE_BYTES_MAX - this.#bytes);
    const kept = this.#droppedBytes > 0 ? bytes.subarray(0, 0) : fitting(bytes, room);
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

/** As many whole lines as there is room for, as a cut one might show half of a password; of an endless line a part. */
function fitting(bytes: Buffer, room: number): Buffer {
  const part = bytes.subarray(0, room);
  const linesEnd = part.lastIndexOf(NEWLINE) + 1;
  const isCut = part.length < bytes.length && linesEnd > 0;
  return isCut ? part.subarray(0, linesEnd) : part;
}
