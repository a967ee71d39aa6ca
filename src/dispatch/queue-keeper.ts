import { MACHINES_PER_GROUP_MAX } from '../jobs/limits.ts';
import type { Target } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { Placement } from './placement.ts';
import { queueIndex, QUEUES_INDEX } from './run-indexes.ts';
import { RUN, type Run } from './run-record.ts';

export type Served =
  /** Nobody waits. */
  | { readonly type: 'empty'; readonly claimed: number }
  /** Whoever is first cannot be placed now. */
  | {
      readonly type: 'blocked';
      readonly claimed: number;
      readonly againAtMs: number | undefined;
      /** Whose change may unblock it. */
      readonly machines: readonly string[];
    };

/** Runs of one queue that are looked at behind a head that cannot be placed, whatever its target allows. */
const LOOK_AHEAD_MAX = 50;

/** As many as a group has members. */
const PROBES_PASSED_MAX = MACHINES_PER_GROUP_MAX;

/** Goes through one queue from its head for as long as somebody can be placed. */
export class QueueKeeper {
  readonly #repository: Repository;
  readonly #placement: Placement;

  constructor(repository: Repository, placement: Placement) {
    this.#repository = repository;
    this.#placement = placement;
  }

  /** `onClaimed` is told of each run as it is claimed; it does not hold up the queue. */
  async serve(target: Target, onClaimed: (run: Run) => void): Promise<Served> {
    const index = queueIndex(target);
    const lookAhead = Math.min(await this.#placement.lookAheadOf(target), LOOK_AHEAD_MAX);
    for (let claimed = 0, passed = 0; ;) {
      const entries = await this.#repository.range(index, { limit: 1 + lookAhead + passed });
      if (entries.length === 0) {
        await this.#forgetQueue(target);
        return { type: 'empty', claimed };
      }
      const ids = entries.map(({ member }) => member);
      const runs = await this.#repository.getMany(RUN, ids);
      const times: number[] = [];
      const machines = new Set<string>();
      let isBlocked = true;
      for (const run of runs) {
        const placed = await this.#placement.place(run);
        if (placed.type === 'claimed') {
          claimed += 1;
          onClaimed(placed.run);
        }
        isBlocked = placed.type === 'nobody';
        if (placed.type !== 'nobody') break;
        if (placed.againAtMs !== undefined) times.push(placed.againAtMs);
        for (const machine of placed.machines) machines.add(machine);
      }
      if (!isBlocked) {
        passed = 0;
        continue;
      }
      // Nobody waits behind a test of a connection: it wants one certain machine, or its turn.
      const probes = Math.min(runs.filter(isProbe).length, PROBES_PASSED_MAX);
      if (probes > passed && entries.length === 1 + lookAhead + passed) {
        passed = probes;
        continue;
      }
      const againAtMs = times.length === 0 ? undefined : Math.min(...times);
      return { type: 'blocked', claimed, againAtMs, machines: [...machines] };
    }
  }

  /** Off the list of queues, unless somebody came meanwhile. */
  async #forgetQueue(target: Target): Promise<void> {
    const name = `${target.kind}:${target.id}`;
    await this.#repository.change(async () => {
      const draft = new Draft();
      const isListed = (await this.#repository.score(QUEUES_INDEX, name)) !== undefined;
      const isEmpty = (await this.#repository.count(queueIndex(target))) === 0;
      if (isListed && isEmpty) draft.unclaimed(queueIndex(target)).drop(QUEUES_INDEX, name);
      return { draft, answer: undefined };
    });
  }
}

function isProbe({ value }: Versioned<Run>): boolean {
  return value.jobKind === 'probe';
}
