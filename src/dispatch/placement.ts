import type { Clock } from '../base/clock.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';
import { inOrder, slotsOf, whyNot, type Candidate, type Ineligible } from './choose-machine.ts';
import { Problem } from './problem.ts';
import {
  CONNECTION,
  GROUP,
  MACHINE,
  PRESENCE,
  type Connection,
  type Group,
  type Target,
} from './records.ts';
import type { Repository, Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { IDLE_INDEX, membersIndex, probingIndex, slotsIndex } from './run-indexes.ts';
import type { Run } from './run-record.ts';
import type { RunFault } from './run-state.ts';

export type Placed =
  /** A machine has the lease; it is to be offered the run. */
  | { readonly type: 'claimed'; readonly run: Run }
  /** It is not in the queue any more, or not as it was: look at the queue again. */
  | { readonly type: 'moved' }
  /** Nobody may be asked now; `againAtMs`: when the first of those who said no may be asked again. */
  | {
      readonly type: 'nobody';
      readonly againAtMs: number | undefined;
      readonly machines: readonly string[];
    };

export interface Assessed {
  readonly candidate: Candidate;
  readonly lack: Ineligible | undefined;
}

/** Finds a machine for one run of a queue's head and claims a slot of it. */
export class Placement {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #minAgentVersion: () => Promise<string | undefined>;

  /** `random`: from 0 to but not 1. */
  constructor(of: {
    readonly repository: Repository;
    readonly changes: RunChanges;
    readonly clock: Clock;
    readonly random: () => number;
    readonly minAgentVersion: () => Promise<string | undefined>;
  }) {
    this.#repository = of.repository;
    this.#changes = of.changes;
    this.#clock = of.clock;
    this.#random = of.random;
    this.#minAgentVersion = of.minAgentVersion;
  }

  async place(run: Versioned<Run>): Promise<Placed> {
    const connection = await this.#repository.get(CONNECTION, run.value.connectionId);
    const assessed = await this.#assess(run.value, connection?.value);
    const fault = whyImpossible(run.value, connection?.value, assessed);
    if (fault !== undefined || connection === undefined) {
      await this.#changes.advanceIfUnchanged(
        run,
        { type: 'impossible', fault: fault ?? { code: 'ConnectionDeleted' } },
        { entry: () => ({ type: 'completedWithError', ...fault }) },
      );
      return { type: 'moved' };
    }
    const all = assessed ?? [];
    const eligible = all.filter(({ lack }) => lack === undefined);
    const ordered = inOrder(
      eligible.map(({ candidate }) => candidate),
      this.#random,
    );
    for (const candidate of ordered) {
      const claimed = await this.#claim(run, connection, candidate);
      if (claimed !== 'taken') return claimed;
    }
    const times = all.flatMap(({ lack }) => (lack?.untilMs === undefined ? [] : [lack.untilMs]));
    return {
      type: 'nobody',
      againAtMs: times.length === 0 ? undefined : Math.min(...times),
      machines: await this.#unblockers(run.value, all),
    };
  }

  /** Every machine of the run's target that it may go to, and what it lacks; undefined: the target is gone. */
  async assess(run: Run): Promise<readonly Assessed[] | undefined> {
    const connection = await this.#repository.get(CONNECTION, run.connectionId);
    return this.#assess(run, connection?.value);
  }

  async #assess(
    run: Run,
    connection: Connection | undefined,
  ): Promise<readonly Assessed[] | undefined> {
    const { kind, id } = run.target;
    const group = kind === 'group' ? await this.#repository.get(GROUP, id) : undefined;
    if (kind === 'group' && group === undefined) return undefined;
    const members = kind === 'group' ? await this.#members(id) : [id];
    const ids = members.filter(member => member === (run.onlyMachineId ?? member));
    const candidates = await this.#candidates(run, ids, group?.value);
    if (kind === 'machine' && candidates.length === 0) return undefined;
    const nowMs = this.#clock.wallMs();
    const sealedTo = connection?.envelope?.kid;
    return candidates.map(one => {
      const candidate = { ...one, sealedTo };
      return { candidate, lack: whyNot(run, candidate, nowMs) };
    });
  }

  /** Runs behind a head that cannot be placed which may go before it. */
  async lookAheadOf({ kind, id }: Target): Promise<number> {
    const record =
      kind === 'group'
        ? await this.#repository.get(GROUP, id)
        : await this.#repository.get(MACHINE, id);
    return record?.value.lookAhead ?? 0;
  }

  async #claim(
    run: Versioned<Run>,
    connection: Versioned<Connection>,
    candidate: Candidate,
  ): Promise<Placed | 'taken'> {
    const { machine, record } = candidate;
    const { mode } = run.value;
    const taken = new Problem('UIFlowAlreadyRunning');
    try {
      const advanced = await this.#changes.advanceIfUnchanged(
        run,
        { type: 'picked', machineId: machine.id },
        {
          with: async draft => {
            // Nor may it have been suspended meanwhile, or one wrong password is tried twice.
            draft.unchanged(MACHINE, record).unchanged(CONNECTION, connection);
            draft.below(slotsIndex(machine.id, mode), slotsOf(candidate, mode), taken);
            // The first sign-in that is refused suspends the connection; the others are not tried then.
            const isProbe = run.value.jobKind === 'probe';
            if (isProbe) draft.below(probingIndex(run.value.connectionId), 1, taken);
            return Promise.resolve();
          },
          entry: ({ attempt }) => ({ type: 'machineSelected', machineId: machine.id, attempt }),
        },
      );
      if (advanced?.transition.type !== 'changed') return { type: 'moved' };
      return { type: 'claimed', run: advanced.run.value };
    } catch (error) {
      if (error === taken) return 'taken';
      throw error;
    }
  }

  /** Whose change may let it be placed: tests of a connection also wait for one another. */
  async #unblockers(run: Run, assessed: readonly Assessed[]): Promise<readonly string[]> {
    const isProbe = run.jobKind === 'probe' && run.target.kind === 'group';
    if (isProbe) return this.#members(run.target.id);
    return assessed.map(({ candidate }) => candidate.machine.id);
  }

  async #candidates(
    run: Run,
    ids: readonly string[],
    group: Group | undefined,
  ): Promise<readonly Candidate[]> {
    const [machines, presences, minAgentVersion] = await Promise.all([
      this.#repository.getMany(MACHINE, ids),
      this.#repository.getMany(PRESENCE, ids),
      this.#minAgentVersion(),
    ]);
    const presenceOf = new Map(presences.map(({ id, value }) => [id, value]));
    return Promise.all(
      machines.map(async record => {
        const groupId = record.value.group?.id;
        const ownGroup =
          group ??
          (groupId === undefined ? undefined : (await this.#repository.get(GROUP, groupId))?.value);
        const [used, idleSinceMs] = await Promise.all([
          this.#repository.count(slotsIndex(record.id, run.mode)),
          this.#repository.score(IDLE_INDEX, record.id),
        ]);
        return {
          record,
          machine: record.value,
          presence: presenceOf.get(record.id),
          group: ownGroup,
          minAgentVersion,
          used,
          idleSinceMs: idleSinceMs ?? 0,
        };
      }),
    );
  }

  async #members(groupId: string): Promise<readonly string[]> {
    const entries = await this.#repository.range(membersIndex(groupId), { limit: 500 });
    return entries.map(({ member }) => member);
  }
}

/** Why nothing can ever come of it; undefined: it may wait. */
function whyImpossible(
  run: Run,
  connection: Connection | undefined,
  assessed: readonly Assessed[] | undefined,
): RunFault | undefined {
  if (connection === undefined) return { code: 'ConnectionDeleted' };
  if (connection.suspended !== undefined) {
    return { code: 'SessionCreationInvalidCredentials', message: 'an earlier run was refused' };
  }
  if (assessed === undefined) {
    return { code: run.target.kind === 'group' ? 'MachineGroupNotFound' : 'MachineNotFound' };
  }
  // The member that it was for has left.
  if (run.onlyMachineId !== undefined && assessed.length === 0) return { code: 'MachineNotFound' };
  const isOffline = assessed.every(({ lack }) => lack?.code === 'NoListenerConnected');
  if (run.whenOffline === 'fail' && isOffline) return { code: 'NoListenerConnected' };
  return undefined;
}

/** The code that stands for all: what a machine said last, or what the first one lacks. */
export function subCodeOf(
  run: Run,
  assessed: readonly Assessed[] | undefined,
): JobErrorCode | undefined {
  const said = Object.values(run.answers).toSorted((one, other) => other.atMs - one.atMs)[0];
  return said?.code ?? assessed?.find(({ lack }) => lack !== undefined)?.lack?.code;
}
