import type { Clock } from '../base/clock.ts';
import { forgetOldAssertions } from './assertions.ts';
import { forgetOldChallenges } from './challenges.ts';
import { forgetOldKeys } from './idempotency.ts';
import { oneByOne } from './one-by-one.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository } from './repository.ts';
import { eventsLog } from './run-events.ts';
import { childrenIndex, ENDED_INDEX, moveInIndexes } from './run-indexes.ts';
import { runLogName } from './run-logs.ts';
import { outputKeyOf, removeOutput, removeStrayOutput } from './run-outputs.ts';
import { RUN, RUN_INPUT, RUN_LOG, type Run } from './run-record.ts';
import { progressLog } from './run-reports.ts';
import { FINAL_STATES } from './run-state.ts';

export const RUN_DAYS_DEFAULT = 7;
/** Results of lost runs are taken for a day. */
export const RUN_DAYS_MIN = 1;
export const RUN_DAYS_MAX = 365;
const DAY_MS = 24 * 3_600_000;
/** Removed in one go; what is left is removed in the next. */
const RUNS_AT_A_TIME = 100;
/** Steps that forget what was remembered for a while; each forgets fifty or more. */
const ROUNDS_MAX = 100;
/** Few are started more often. */
const ATTEMPTS_LOOKED_AT = 5;

/** Removes what has been kept for long enough: runs with all that is theirs, and what was remembered for a while. */
export class Retention {
  readonly #repository: Repository;
  readonly #clock: Clock;
  readonly #runDays: () => Promise<number | undefined>;

  /** `runDays`: the environment's own; undefined: the default. */
  constructor(repository: Repository, clock: Clock, runDays: () => Promise<number | undefined>) {
    this.#repository = repository;
    this.#clock = clock;
    this.#runDays = runDays;
  }

  /** Returns how many runs it removed. Safe to call in several processes at once. */
  async sweep(): Promise<number> {
    const nowMs = this.#clock.wallMs();
    const keptMs = ((await this.#runDays()) ?? RUN_DAYS_DEFAULT) * DAY_MS;
    const query = { to: nowMs - keptMs, limit: RUNS_AT_A_TIME };
    let removed = 0;
    const ended = await this.#repository.range(ENDED_INDEX, query);
    await oneByOne(ended, async ({ member }) => {
      if (await this.#remove(member)) removed += 1;
    });
    for (const forget of [forgetOldKeys, forgetOldAssertions, forgetOldChallenges]) {
      for (let round = 0; round < ROUNDS_MAX; round += 1) {
        if ((await forget(this.#repository, nowMs)) === 0) break;
      }
    }
    return removed;
  }

  /**
   * Outputs first, since they are found by the run; then the run and all else in one step. Whoever dies in between
   * leaves a run that the next sweep finds.
   */
  async #remove(id: string): Promise<boolean> {
    const run = await this.#repository.get(RUN, id);
    if (run === undefined) return this.#dropStray(id);
    if (!FINAL_STATES.has(run.value.state)) return false;
    await this.#removeOutputs(run.value);
    try {
      return await this.#repository.change(async () => {
        const before = await this.#repository.get(RUN, id);
        const draft = new Draft();
        // It was read to be over, and what is over is changed by nothing but a result that comes late.
        if (before?.version !== run.version) return { draft, answer: false };
        const [input, log] = await Promise.all([
          this.#repository.get(RUN_INPUT, id),
          this.#repository.get(RUN_LOG, id),
        ]);
        draft.remove(RUN, before);
        if (input !== undefined) draft.remove(RUN_INPUT, input);
        if (log !== undefined) draft.remove(RUN_LOG, log);
        for (const name of [eventsLog(id), runLogName(id), progressLog(id)]) draft.clearLog(name);
        moveInIndexes(draft, before.value, undefined);
        draft.clearIndex(childrenIndex(id));
        return { draft, answer: true };
      });
    } catch (error) {
      if (error instanceof Problem) return false;
      throw error;
    }
  }

  /** Also those that a process left which died while it wrote the result of an earlier attempt. */
  async #removeOutputs({ id, fence, output }: Run): Promise<void> {
    if (output !== undefined) await removeOutput(this.#repository, output);
    const first = Math.max(1, fence - ATTEMPTS_LOOKED_AT + 1);
    for (let earlier = first; earlier <= fence; earlier += 1) {
      await removeStrayOutput(this.#repository, outputKeyOf(id, earlier));
    }
  }

  async #dropStray(id: string): Promise<boolean> {
    await this.#repository.change(async () =>
      Promise.resolve({ draft: new Draft().drop(ENDED_INDEX, id), answer: undefined }),
    );
    return false;
  }
}
