import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { requireVersion } from './checks.ts';
import { Problem } from './problem.ts';
import { topScore, type Priority } from './queue-order.ts';
import type { Repository, Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import type { RunEventEntry } from './run-events.ts';
import { childrenIndex, queueIndex } from './run-indexes.ts';
import type { Run } from './run-record.ts';
import type { CancelMode } from './run-state.ts';

/** Tells a machine at once that a run of its is to end. It also learns so by its next renewal. */
export type PushCancel = (run: Run) => void;

/** How many children of a run are cancelled with it, and how deep. */
const CHILDREN_MAX = 1_000;
const DEPTH_MAX = 16;

/** What people do to runs that they asked for. */
export class RunControl {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;
  readonly #pushCancel: PushCancel;

  constructor(
    repository: Repository,
    changes: RunChanges,
    clock: Clock,
    pushCancel: PushCancel = () => undefined,
  ) {
    this.#repository = repository;
    this.#changes = changes;
    this.#clock = clock;
    this.#pushCancel = pushCancel;
  }

  /**
   * Ends a run: at once while it waits, else as soon as its machine says so. Its children end with it.
   * Throws `RunStateConflict` when it is over.
   */
  async cancel(caller: Caller, runId: string, mode: CancelMode): Promise<Versioned<Run>> {
    requireIn(caller, 'run');
    const run = await this.#cancelOne(runId, mode, caller.name, before =>
      requireOwn(caller, before),
    );
    await this.#cancelChildren(runId, mode, caller.name, DEPTH_MAX);
    return run;
  }

  /** Before all others, until it is undone; the last one moved is the first. */
  async moveToTop(caller: Caller, runId: string): Promise<Versioned<Run>> {
    const entry: Omit<RunEventEntry, 'atMs'> = { type: 'movedToTop', by: caller.name };
    return this.#edit(caller, runId, entry, async ({ value }) => {
      requireQueued(value);
      const [first] = await this.#repository.range(queueIndex(value.target), { limit: 1 });
      return { ...value, topScore: topScore(first?.score) };
    });
  }

  /** Back to its old place. */
  async undoMove(caller: Caller, runId: string): Promise<Versioned<Run>> {
    const entry: Omit<RunEventEntry, 'atMs'> = { type: 'movedBack', by: caller.name };
    return this.#edit(caller, runId, entry, ({ value }) => {
      requireQueued(value);
      return { ...value, topScore: undefined };
    });
  }

  async setPriority(
    caller: Caller,
    runId: string,
    ifMatch: number | undefined,
    priority: Priority,
  ): Promise<Versioned<Run>> {
    const entry: Omit<RunEventEntry, 'atMs'> = {
      type: 'priorityChanged',
      by: caller.name,
      message: priority,
    };
    return this.#edit(caller, runId, entry, run => {
      requireVersion(run, ifMatch);
      requireQueued(run.value);
      return { ...run.value, priority };
    });
  }

  async #cancelOne(
    runId: string,
    mode: CancelMode,
    by: string,
    guard: (run: Run) => void,
  ): Promise<Versioned<Run>> {
    const action = mode === 'safe-stop' ? 'run.safe-stop' : 'run.cancel';
    const { run, transition } = await this.#changes.advance(
      runId,
      { type: 'cancel', mode, by },
      {
        guard,
        entry: () => ({ type: 'cancelRequested', by, message: mode }),
        with: async draft => {
          audit(draft, { atMs: this.#clock.wallMs(), action, by, object: runId });
          return Promise.resolve();
        },
      },
    );
    if (transition.type === 'refused') throw new Problem(transition.code);
    if (transition.type === 'changed') this.#pushCancel(run.value);
    return run;
  }

  async #cancelChildren(
    runId: string,
    mode: CancelMode,
    by: string,
    depthLeft: number,
  ): Promise<void> {
    if (depthLeft === 0) return;
    const children = await this.#repository.range(childrenIndex(runId), { limit: CHILDREN_MAX });
    for (const { member } of children) {
      try {
        await this.#cancelOne(member, mode, by, () => undefined);
      } catch (error) {
        // It is over already, which is what is wanted.
        if (!(error instanceof Problem)) throw error;
      }
      await this.#cancelChildren(member, mode, by, depthLeft - 1);
    }
  }

  #edit(
    caller: Caller,
    runId: string,
    entry: Omit<RunEventEntry, 'atMs'>,
    change: (run: Versioned<Run>) => Run | Promise<Run>,
  ): Promise<Versioned<Run>> {
    requireIn(caller, 'run');
    const atMs = this.#clock.wallMs();
    return this.#changes.edit(
      runId,
      run => {
        requireOwn(caller, run.value);
        return change(run);
      },
      entry,
      draft =>
        void audit(draft, { atMs, action: `run.${entry.type}`, by: caller.name, object: runId }),
    );
  }
}

function requireOwn(caller: Caller, { owner }: Run): void {
  requireMay(caller, 'edit', { owner, access: {} });
}

function requireQueued({ state }: Run): void {
  if (state !== 'Queued') throw new Problem('RunStateConflict', 'it does not wait any more');
}
