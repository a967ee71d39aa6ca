import type { Clock } from '../base/clock.ts';
import { queueEnd } from './callbacks.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { appendEvent, type RunEventEntry } from './run-events.ts';
import { moveInIndexes } from './run-indexes.ts';
import { RUN, withLife, type Run } from './run-record.ts';
import { advanceRun, type RunEvent, type Transition } from './run-state.ts';

/** What an event of a run's life is to do besides. */
export interface Around {
  /** Throws what forbids it: decided on the very run that is changed. */
  readonly guard?: (run: Run) => void;
  /** Changes more of the run, which has its new life already. */
  readonly more?: (after: Run, before: Run) => Run;
  /** Adds to the step. */
  readonly with?: (draft: Draft, after: Run, before: Run) => Promise<void>;
  readonly entry?: (after: Run) => Omit<RunEventEntry, 'atMs'> | undefined;
}

export interface Advanced {
  readonly run: Versioned<Run>;
  readonly transition: Transition;
}

/** All changes of runs that are there: the run, its indexes and its log of events in one step. */
export class RunChanges {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /**
   * Advances a run's life. Throws `NotFound`, and whatever the guard throws; that the event is not taken is
   * no error but the transition's own answer.
   */
  advance(
    runId: string,
    event: RunEvent | ((run: Run) => RunEvent),
    around: Around = {},
  ): Promise<Advanced> {
    return this.#repository.change(async () => {
      const before = await this.get(runId);
      return this.#drafted(
        before,
        typeof event === 'function' ? event(before.value) : event,
        around,
      );
    });
  }

  /** As `advance`, but only while the run is as it was read: undefined when it is not any more. */
  async advanceIfUnchanged(
    before: Versioned<Run>,
    event: RunEvent,
    around: Around = {},
  ): Promise<Advanced | undefined> {
    let isFirst = true;
    return this.#repository.change<Advanced | undefined>(async () => {
      if (!isFirst) return Promise.resolve({ draft: new Draft(), answer: undefined });
      isFirst = false;
      return this.#drafted(before, event, around);
    });
  }

  /** Changes what is not its life. `change` throws what forbids it. */
  edit(
    runId: string,
    change: (run: Versioned<Run>) => Run | Promise<Run>,
    entry?: Omit<RunEventEntry, 'atMs'>,
    more?: (draft: Draft) => void,
  ): Promise<Versioned<Run>> {
    return this.#repository.change(async () => {
      const before = await this.get(runId);
      const after = await change(before);
      const draft = new Draft();
      this.#write(draft, before, after, entry);
      more?.(draft);
      return { draft, answer: { id: runId, version: before.version + 1, value: after } };
    });
  }

  async get(runId: string): Promise<Versioned<Run>> {
    const run = await this.#repository.get(RUN, runId);
    if (run === undefined) throw new Problem('NotFound', 'there is no such run');
    return run;
  }

  async #drafted(
    before: Versioned<Run>,
    event: RunEvent,
    around: Around,
  ): Promise<{ readonly draft: Draft; readonly answer: Advanced }> {
    around.guard?.(before.value);
    const draft = new Draft();
    const transition = advanceRun(before.value, event, this.#clock.wallMs());
    if (transition.type !== 'changed') return { draft, answer: { run: before, transition } };
    const advanced = withLife(before.value, transition.life);
    const after = around.more?.(advanced, before.value) ?? advanced;
    this.#write(draft, before, after, around.entry?.(after));
    await around.with?.(draft, after, before.value);
    const run = { id: before.id, version: before.version + 1, value: after };
    return { draft, answer: { run, transition } };
  }

  #write(
    draft: Draft,
    before: Versioned<Run>,
    after: Run,
    entry: Omit<RunEventEntry, 'atMs'> | undefined,
  ): void {
    draft.replace(RUN, before, after);
    moveInIndexes(draft, before.value, after);
    queueEnd(draft, this.#repository.partition, before.value, after);
    if (entry !== undefined)
      appendEvent(draft, before.id, { atMs: this.#clock.wallMs(), ...entry });
  }
}
