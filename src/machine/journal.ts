import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { openDurableFile, type DurableFile } from './durable-file.ts';
import {
  JournalState,
  journalLineSchema,
  type JournalEntry,
  type JournalLine,
} from './journal-state.ts';
import type { Attempt } from './ports.ts';

/** A journal that has grown past this and past twice what it needs is written anew. */
const COMPACT_BYTES_MIN = 256 * 1024;

/** The disk did not take a line: what it would have promised is not so. */
export class JournalError extends Error {
  constructor(cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(`The journal cannot be written: ${why}`, { cause });
    this.name = 'JournalError';
  }
}

/**
 * What this machine has promised and must not forget, on disk before anybody is told. Methods that write
 * reject with `JournalError`, and then nothing has changed, neither here nor on disk.
 */
export class Journal {
  readonly #file: DurableFile;
  readonly #clock: Clock;
  readonly #log: Logger;
  #state = new JournalState();
  /** Writes happen one after another. */
  #last: Promise<unknown> = Promise.resolve();
  #compactAtBytes = COMPACT_BYTES_MIN;

  private constructor(file: DurableFile, clock: Clock, log: Logger) {
    this.#file = file;
    this.#clock = clock;
    this.#log = log;
  }

  /** `path`: of the file. Nobody else may have it open: `lockFolder` sees to that. */
  static async open(
    path: string,
    options: {
      readonly clock: Clock;
      readonly log: Logger;
      /** For tests of broken disks. */
      readonly openFile?: typeof openDurableFile;
    },
  ): Promise<Journal> {
    const { file, text } = await (options.openFile ?? openDurableFile)(path);
    const journal = new Journal(file, options.clock, options.log);
    journal.#read(text);
    return journal;
  }

  entries(): readonly JournalEntry[] {
    return this.#state.entries();
  }

  entry(about: Pick<Attempt, 'runId' | 'fence'>): JournalEntry | undefined {
    return this.#state.entry(about);
  }

  isOver(about: Pick<Attempt, 'runId' | 'fence'>): boolean {
    return this.#state.isOver(about);
  }

  fenceOf(runId: string): number {
    return this.#state.fenceOf(runId);
  }

  versionOf(connectionId: string): number {
    return this.#state.versionOf(connectionId);
  }

  /** Resolves when the line is on disk. */
  write(line: JournalLine): Promise<void> {
    const turn = this.#last.then(async () => {
      try {
        await this.#file.append(`${JSON.stringify(line)}\n`);
      } catch (error) {
        throw new JournalError(error);
      }
      this.#state.take(line);
      if (this.#file.sizeBytes > this.#compactAtBytes) await this.#compact();
    });
    // Whoever asked hears of the failure; the next one gets its own try.
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** As `write`; false, and told in the log, when the disk does not take it. */
  async tryWrite(line: JournalLine): Promise<boolean> {
    try {
      await this.write(line);
      return true;
    } catch (error) {
      if (!(error instanceof JournalError)) throw error;
      this.#log.error({ line: line.type, err: error }, 'the journal could not be written');
      return false;
    }
  }

  /** After what is being written. */
  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }

  #read(text: string): void {
    let damaged = 0;
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const parsed = parseLine(line);
      if (parsed === undefined || !this.#state.take(parsed)) damaged += 1;
    }
    // Lines are on disk before the next begins, so that only a broken disk or a hand can do this.
    if (damaged > 0) this.#log.error({ lines: damaged }, 'the journal has damaged lines');
  }

  async #compact(): Promise<void> {
    const lines = this.#state.lines(this.#clock.wallMs());
    try {
      await this.#file.replace(lines.map(line => `${JSON.stringify(line)}\n`).join(''));
      const kept = new JournalState();
      for (const line of lines) kept.take(line);
      this.#state = kept;
    } catch (error) {
      this.#log.warn({ err: error }, 'the journal could not be made shorter');
    }
    this.#compactAtBytes = Math.max(COMPACT_BYTES_MIN, this.#file.sizeBytes * 2);
  }
}

function parseLine(line: string): JournalLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const parsed = v.safeParse(journalLineSchema, value);
  return parsed.success ? parsed.output : undefined;
}
