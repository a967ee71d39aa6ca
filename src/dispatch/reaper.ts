import type { Clock } from '../base/clock.ts';
import { answerAfter } from './choose-machine.ts';
import { oneByOne } from './one-by-one.ts';
import { subCodeOf, type Placement } from './placement.ts';
import { Problem } from './problem.ts';
import type { Repository, Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { DEADLINES_INDEX, LEASES_INDEX } from './run-indexes.ts';
import type { Run } from './run-record.ts';

/** Looked at in one go; what is left is looked at in the next. */
const AT_A_TIME = 200;

/** Ends what nobody ends by itself: leases without a machine, waits and runs that last too long. */
export class Reaper {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #placement: Placement;
  readonly #clock: Clock;
  readonly #pushCancel: (run: Run) => void;

  constructor(of: {
    readonly repository: Repository;
    readonly changes: RunChanges;
    readonly placement: Placement;
    readonly clock: Clock;
    readonly pushCancel: (run: Run) => void;
  }) {
    this.#repository = of.repository;
    this.#changes = of.changes;
    this.#placement = of.placement;
    this.#clock = of.clock;
    this.#pushCancel = of.pushCancel;
  }

  /** Returns how many runs it changed. Safe to call in several processes at once. */
  async sweep(): Promise<number> {
    let changed = 0;
    await oneByOne(await this.#due(LEASES_INDEX), async runId => {
      if (await this.#tolerant(() => this.#endLease(runId))) changed += 1;
    });
    await oneByOne(await this.#due(DEADLINES_INDEX), async runId => {
      if (await this.#tolerant(() => this.#endTime(runId))) changed += 1;
    });
    return changed;
  }

  async #due(index: string): Promise<readonly string[]> {
    const entries = await this.#repository.range(index, {
      to: this.#clock.wallMs(),
      limit: AT_A_TIME,
    });
    return entries.map(({ member }) => member);
  }

  async #endLease(runId: string): Promise<boolean> {
    const { transition } = await this.#changes.advance(
      runId,
      { type: 'lease-over' },
      {
        more: (after, before) =>
          before.state === 'Assigned' ? this.#silent(after, before) : after,
        entry: ({ state, machineId, attempt, fault }) => ({
          type: state === 'Queued' ? 'returnedToQueue' : 'completedWithError',
          machineId,
          attempt,
          code: fault?.code,
        }),
      },
    );
    return transition.type === 'changed';
  }

  async #endTime(runId: string): Promise<boolean> {
    const run = await this.#changes.get(runId);
    return run.value.state === 'Queued' ? this.#endWait(run) : this.#endRun(run);
  }

  async #endWait(run: Versioned<Run>): Promise<boolean> {
    const assessed = await this.#placement.assess(run.value);
    const subCode = subCodeOf(run.value, assessed);
    const advanced = await this.#changes.advanceIfUnchanged(
      run,
      { type: 'queue-timeout', subCode },
      {
        more: after => {
          // Also those that never were asked stand in the table of machines.
          const answers = { ...after.answers };
          const nowMs = this.#clock.wallMs();
          for (const { candidate, lack } of assessed ?? []) {
            if (lack === undefined || Object.hasOwn(answers, candidate.machine.id)) continue;
            answers[candidate.machine.id] = answerAfter(undefined, lack, after, nowMs);
          }
          return { ...after, answers };
        },
        entry: () => ({ type: 'completedWithError', code: 'NoCandidateMachine', message: subCode }),
      },
    );
    return advanced?.transition.type === 'changed';
  }

  async #endRun(run: Versioned<Run>): Promise<boolean> {
    const advanced = await this.#changes.advanceIfUnchanged(
      run,
      { type: 'run-timeout' },
      { entry: ({ machineId, attempt }) => ({ type: 'timeLimitReached', machineId, attempt }) },
    );
    if (advanced?.transition.type !== 'changed') return false;
    this.#pushCancel(advanced.run.value);
    return true;
  }

  /** The machine that did not ask for the start is left alone with this run for a while. */
  #silent(after: Run, before: Run): Run {
    const { machineId } = before;
    if (machineId === undefined) return after;
    const said = { code: 'ConnectionTimeout' } as const;
    const answer = answerAfter(before.answers[machineId], said, before, this.#clock.wallMs());
    return { ...after, answers: { ...after.answers, [machineId]: answer } };
  }

  /** A run that somebody else changes at the same time is looked at again in the next sweep. */
  async #tolerant(end: () => Promise<boolean>): Promise<boolean> {
    try {
      return await end();
    } catch (error) {
      if (error instanceof Problem) return false;
      throw error;
    }
  }
}
