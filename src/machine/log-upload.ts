import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { LOG_CHUNK_BYTES_MAX } from '../jobs/limits.ts';
import type { LogMask } from './log-mask.ts';
import { MaskedLog, WithheldLog, type LogSource } from './log-source.ts';
import { ReportError, type Attempt, type LogAnswer, type RunReporter } from './ports.ts';
import { pause, retryDelayMs } from './retry.ts';
import { sizeOf } from './run-folder.ts';

/** A chunk that is not full waits so long for more. */
const GATHER_MS = 400;
/** Answers that bring the log no further, in a row. */
const STUCK_MAX = 5;

/**
 * Brings a growing log file to the control plane, from the start or from wherever that says it is, without the
 * secrets of its mask. Where these are not to be had, nothing of it is sent but a line that says so. A log that the
 * control plane does not want, or cannot have, ends the upload and nothing else: `done` never rejects.
 */
export class LogUpload {
  readonly #about: Attempt;
  readonly #path: string;
  readonly #chunkBytes: number;
  readonly #reporter: Pick<RunReporter, 'log'>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  readonly #openMask: () => Promise<LogMask | undefined>;
  #mask: LogMask | undefined;
  #source: LogSource | undefined;
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
      /**
       * Asked once, when there is something in the file; wiped here when all is over. Undefined: what is to be
       * masked is not known.
       */
      readonly openMask: () => Promise<LogMask | undefined>;
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
    this.#openMask = options.openMask;
    options.signal.addEventListener('abort', () => this.grown(), { once: true });
    this.done = this.#run()
      .catch((error: unknown) => {
        this.#log.error({ ...this.#about, err: error }, 'log upload broke down');
      })
      .finally(() => this.#mask?.wipe());
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
      const bytes = await this.#read(isLast);
      if (bytes.length === 0) {
        if (isLast) return;
        await this.#sleep();
        continue;
      }
      if (bytes.length < this.#chunkBytes && !isLast && this.#offset > 0) {
        await pause(this.#clock, GATHER_MS, this.#signal);
      }
      try {
        const answer = await this.#send(await this.#read(isLast));
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

  async #read(isComplete: boolean): Promise<Buffer> {
    this.#source ??= await this.#openSource();
    return this.#source?.read(this.#offset, isComplete) ?? Buffer.alloc(0);
  }

  /** Undefined: nothing was written yet. */
  async #openSource(): Promise<LogSource | undefined> {
    if ((await sizeOf(this.#path)) === 0) return undefined;
    this.#mask = await this.#openMask();
    const source =
      this.#mask === undefined
        ? new WithheldLog(this.#path)
        : new MaskedLog(this.#path, this.#chunkBytes, this.#mask);
    this.#offset = source.startOffset;
    return source;
  }

  #sleep(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve;
      if (this.#isAwake) resolve();
    });
  }
}
