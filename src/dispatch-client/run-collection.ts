import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { pause } from './api-exchange.ts';
import { DispatchError } from './dispatch-error.ts';
import { readAnswer, RecordCollection, type CallApi } from './record-collection.ts';
import {
  isOver,
  logItemSchema,
  outputsSchema,
  progressSchema,
  runEventSchema,
  runSchema,
  type RunEvent,
  type RunOutputs,
  type RunProgress,
  type RunView,
} from './representations.ts';

/** A piece of what a run wrote. */
export interface LogPiece {
  /** To give as `after`, to go on behind it. */
  readonly number: number;
  readonly attempt: number;
  /** Where it begins in this attempt's log, in bytes. */
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface Watching {
  /** Number of what was seen last; 0: from the beginning. */
  readonly after?: number;
  /** Goes on as more comes, until the run is over; else what is there. */
  readonly follow?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** The server holds a request for so long while there is nothing new. */
const WAIT_SECONDS = 20;
const WAIT_TIMEOUT_MS = 45_000;
/** A server that is started anew is back by then. */
const OUTAGE_MS_MAX = 60_000;
const OUTAGE_PAUSE_MS = 1_000;

/** Runs: what all records have, and what can be done and seen while they last. */
export class RunCollection extends RecordCollection<RunView> {
  readonly #call: CallApi;
  readonly #clock: Clock;

  constructor(call: CallApi, path: string, clock: Clock) {
    super(call, path, runSchema);
    this.#call = call;
    this.#clock = clock;
  }

  /** `stop` asks the job and ends it 10 s later; `kill` ends it at once. */
  async cancel(id: string, mode?: 'stop' | 'kill'): Promise<void> {
    await this.act(id, 'cancel', mode === undefined ? {} : { mode });
  }

  /** Asks the job to end at its next checkpoint. */
  async safeStop(id: string): Promise<void> {
    await this.act(id, 'safe-stop');
  }

  async moveToTop(id: string): Promise<RunView> {
    return readAnswer(runSchema, await this.act(id, 'move-to-top'));
  }

  async undoMove(id: string): Promise<RunView> {
    return readAnswer(runSchema, await this.act(id, 'undo-move'));
  }

  /** What was asked for: `{job, inputs, sealedInputs}`; of sealed ones the key's id alone. */
  input(id: string): Promise<unknown> {
    return this.#call('GET', `${this.pathOf(id)}/input`);
  }

  /** Empty while there are none. */
  async outputs(id: string): Promise<RunOutputs> {
    return readAnswer(outputsSchema, await this.#call('GET', `${this.pathOf(id)}/outputs`));
  }

  events(id: string, watching: Watching = {}): AsyncGenerator<RunEvent> {
    return this.#watch(`${this.pathOf(id)}/events`, runEventSchema, watching);
  }

  progress(id: string, watching: Watching = {}): AsyncGenerator<RunProgress> {
    return this.#watch(`${this.pathOf(id)}/progress`, progressSchema, watching);
  }

  async *logs(id: string, watching: Watching = {}): AsyncGenerator<LogPiece> {
    for await (const item of this.#watch(`${this.pathOf(id)}/logs`, logItemSchema, watching)) {
      const { number, attempt, offset, data } = item;
      yield { number, attempt, offset, bytes: Buffer.from(data, 'base64') };
    }
  }

  /** The run when it is over. */
  async ended(id: string, signal?: AbortSignal): Promise<RunView> {
    for await (const { type } of this.events(id, { follow: true, signal })) {
      // A lost run that turns out to have ended is over for whoever waits when it is lost.
      if (type === 'completed' || type === 'completedWithError') break;
    }
    for (;;) {
      const run = await this.get(id);
      if (isOver(run)) return run;
      await pause(OUTAGE_PAUSE_MS, this.#clock, signal);
    }
  }

  async *#watch<Item extends { readonly number: number }>(
    path: string,
    itemSchema: v.GenericSchema<unknown, Item>,
    { after: from = 0, follow = false, signal }: Watching,
  ): AsyncGenerator<Item> {
    const schema = v.looseObject({
      items: v.array(itemSchema),
      next: v.number(),
      isOver: v.optional(v.boolean(), false),
    });
    const wait = follow ? { wait: WAIT_SECONDS } : {};
    for (let after = from; ;) {
      const call = { query: { after, ...wait }, timeoutMs: WAIT_TIMEOUT_MS, signal };
      const body = await this.#throughOutages(() => this.#call('GET', path, call), follow, signal);
      const { items, next, isOver: isAll } = readAnswer(schema, body);
      yield* items;
      if (isAll || (items.length === 0 && !follow)) return;
      after = Math.max(after, next);
    }
  }

  /** Whoever follows goes on when the server is back. */
  async #throughOutages<T>(
    ask: () => Promise<T>,
    follow: boolean,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const deadlineMs = this.#clock.nowMs() + OUTAGE_MS_MAX;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        const isAway =
          error instanceof DispatchError && (error.code === 'Unreachable' || error.status === 503);
        if (!follow || !isAway || this.#clock.nowMs() > deadlineMs) throw error;
        await pause(OUTAGE_PAUSE_MS, this.#clock, signal);
      }
    }
  }
}
