import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { LOG_CHUNK_BYTES_MAX } from '../jobs/limits.ts';
import { ReportError, type Attempt, type LogAnswer, type RunReporter } from './ports.ts';
import { pause, retryDelayMs } from './retry.ts';

/** A chunk that is not full waits so long for more. */
const GATHER_MS = 400;
/** Answers that bring the log no further, in a row. */
const STUCK_MAX = 5;

/**
 * Brings a growing log file to the control plane, from the start or from wherever that says it is. A log
 * that it does not want, or cannot have, ends the upload and nothing else: `done` never rejects.
 */
export class LogUpload {
  readonly #about: Attempt;
  readonly #path: string;
  readonly #chunkBytes: number;
  readonly #reporter: Pick<RunReporter, 'log'>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  #offset = 0;
  #isComplete = false;
  #wake: () => void = () => {};
  #isAwake = true;
  /** All was sent, or no more of it will be; or the signal was aborted. */
  readonly done: Promise<void>;

  constructor(
    about: Attempt,
    options: {
      readonly path: string;
      readonly chunkBytes: number;
      readonly reporter: Pick<RunReporter, 'log'>;
      readonly clock: Clock;
      readonly log: Logger;
      readonly signal: AbortSignal;
    },
  ) {
    const { runId, attempt, fence } = about;
    this.#about = { runId, attempt, fence };
    this.#path = options.path;
    this.#chunkBytes = Math.min(options.chunkBytes, LOG_CHUNK_BYTES_MAX);
    this.#reporter = options.reporter;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#signal = options.signal;
    options.signal.addEventListener('abort', () => this.grown(), { once: true });
    this.done = this.#run().catch((error: unknown) => {
      this.#log.error({ ...this.#about, err: error }, 'log upload broke down');
    });
  }

  /** There may be more in the file. */
  grown(): void {
    this.#isAwake = true;
    this.#wake();
  }

  /** There will be no more in the file. */
  complete(): void {
    this.#isComplete = true;
    this.grown();
  }

  async #run(): Promise<void> {
    let failures = 0;
    let stuck = 0;
    while (!this.#signal.aborted) {
      // Asked before the file is read: what comes after that is a later turn's.
      const isLast = this.#isComplete;
      this.#isAwake = false;
      const bytes = await this.#read();
      if (bytes.length === 0) {
        if (isLast) return;
        await this.#sleep();
        continue;
      }
      if (bytes.length < this.#chunkBytes && !isLast && this.#offset > 0) {
        await pause(this.#clock, GATHER_MS, this.#signal);
      }
      try {
        const answer = await this.#send(await this.#read());
        failures = 0;
        stuck = answer.nextOffset > this.#offset ? 0 : stuck + 1;
        this.#offset = answer.nextOffset;
        if (answer.isTruncated) return;
        if (stuck > STUCK_MAX) {
          this.#log.warn({ ...this.#about, offset: this.#offset }, 'log upload makes no progress');
          return;
        }
      } catch (error) {
        if (!(error instanceof ReportError)) throw error;
        if (error.isFinal) {
          this.#log.warn({ ...this.#about, code: error.code }, 'log upload was refused');
          return;
        }
        failures += 1;
        await pause(this.#clock, retryDelayMs(failures), this.#signal);
      }
    }
  }

  async #send(bytes: Buffer): Promise<LogAnswer> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return this.#reporter.log({ ...this.#about, offset: this.#offset, sha256, bytes });
  }

  async #read(): Promise<Buffer> {
    let file;
    try {
      file = await open(this.#path, 'r');
    } catch {
      // Not written yet.
      return Buffer.alloc(0);
    }
    try {
      const bytes = Buffer.alloc(this.#chunkBytes);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, this.#offset);
      return bytes.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }

  #sleep(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve;
      if (this.#isAwake) resolve();
    });
  }
}
