import type { Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { MACHINES_INDEX } from './dispatch/machine-registration.ts';
import { machineStateOf, presenceStateOf, reasonsOf } from './dispatch/machine-state.ts';
import {
  COMMON_PARTITION,
  ENVIRONMENT,
  GROUP,
  MACHINE,
  PRESENCE,
  type Group,
} from './dispatch/records.ts';
import { Repository } from './dispatch/repository.ts';
import { QUEUES_INDEX, slotsIndex, stateIndex } from './dispatch/run-indexes.ts';
import { RUN } from './dispatch/run-record.ts';
import { FINAL_STATES, type RunState } from './dispatch/run-state.ts';
import type { DispatchStore, IndexEntry } from './store/dispatch-store.ts';

export interface GaugeValue {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface DispatchSample {
  /** By the metric's name. */
  readonly gauges: Readonly<Record<string, readonly GaugeValue[]>>;
  /** Times that the records could not be read. */
  readonly failures: number;
}

/** A sample that is younger is good enough: records are read at most so often, however many ask. */
const FRESH_MS = 10_000;
/** Environments with gauges of their own; the others have none. */
const ENVIRONMENTS_MAX = 50;
/** Records read at a time, with a turn of the event loop in between. */
const PAGE = 100;
/** Queues and waiting runs that are looked at in one environment; what is behind them counts as what is before. */
const LOOKED_AT_MAX = 2_000;

const RUN_STATES: readonly RunState[] = [
  ...(['Queued', 'Assigned', 'Starting', 'Running', 'SafeStopping', 'Cancelling'] as const),
  ...FINAL_STATES,
];

const TARGETS = ['machine', 'group'] as const;
type TargetKind = (typeof TARGETS)[number];

/**
 * Reads from the records what gauges show. Only when somebody asks for metrics, and not so that they wait for it: each
 * reading is shown to the next one who asks.
 */
export class DispatchSampler {
  readonly #store: DispatchStore;
  readonly #clock: Clock;
  readonly #log: Logger;
  #gauges: DispatchSample['gauges'] = {};
  #failures = 0;
  #takenAtMs = Number.NEGATIVE_INFINITY;
  #taking: Promise<void> | undefined;
  #isStopped = false;

  constructor(store: DispatchStore, clock: Clock, log: Logger) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** What is known; looks again in the background when it is old. */
  latest(): DispatchSample {
    void this.refresh();
    return { gauges: this.#gauges, failures: this.#failures };
  }

  /** Resolves when what is known is fresh, or could not be made so. */
  async refresh(): Promise<void> {
    if (this.#isStopped || this.#clock.nowMs() - this.#takenAtMs < FRESH_MS) return;
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined;
    });
    await this.#taking;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#taking;
  }

  async #take(): Promise<void> {
    try {
      const common = new Repository(this.#store, COMMON_PARTITION);
      const entries = await common.range('environments', { limit: ENVIRONMENTS_MAX });
      const taken: GaugeValueOf[] = [];
      for (const { member } of entries) taken.push(...(await this.#environment(common, member)));
      this.#gauges = grouped(taken);
    } catch (error) {
      this.#failures += 1;
      if (!this.#isStopped) this.#log.debug({ err: error }, 'gauges of dispatch could not be read');
    }
    this.#takenAtMs = this.#clock.nowMs();
  }

  async #environment(common: Repository, environment: string): Promise<readonly GaugeValueOf[]> {
    const repository = new Repository(this.#store, environment);
    const record = await common.get(ENVIRONMENT, environment);
    return [
      ...(await runsByState(repository)),
      ...(await this.#queues(repository)),
      ...(await this.#machines(repository, record?.value.minAgentVersion)),
    ];
  }

  async #queues(repository: Repository): Promise<readonly GaugeValueOf[]> {
    const depths = { machine: 0, group: 0 };
    const deepest = { machine: 0, group: 0 };
    for await (const entries of this.#pages(repository, QUEUES_INDEX)) {
      const counts = await Promise.all(
        entries.map(({ member }) => repository.count(`q:${member}`)),
      );
      for (const [i, { member }] of entries.entries()) {
        const kind = kindIn(member);
        if (kind === undefined) continue;
        depths[kind] += counts[i] ?? 0;
        deepest[kind] = Math.max(deepest[kind], counts[i] ?? 0);
      }
    }
    const oldest = await this.#oldest(
      repository,
      TARGETS.filter(kind => depths[kind] > 0),
    );
    const nowMs = this.#clock.wallMs();
    return TARGETS.flatMap((target): readonly GaugeValueOf[] => {
      const labels = { environment: repository.partition, target };
      const queuedAtMs = oldest.get(target);
      const ageMs = queuedAtMs === undefined ? 0 : Math.max(0, nowMs - queuedAtMs);
      return [
        { name: 'halfway_dispatch_queue_depth', labels, value: depths[target] },
        { name: 'halfway_dispatch_deepest_queue', labels, value: deepest[target] },
        { name: 'halfway_dispatch_queue_oldest_age_seconds', labels, value: ageMs / 1_000 },
      ];
    });
  }

  /** When the first run of each kind of queue was queued. */
  async #oldest(
    repository: Repository,
    wanted: readonly TargetKind[],
  ): Promise<ReadonlyMap<string, number>> {
    const found = new Map<string, number>();
    if (wanted.length === 0) return found;
    let last = this.#clock.wallMs();
    for await (const entries of this.#pages(repository, stateIndex('Queued'))) {
      const runs = await repository.getMany(RUN, idsOf(entries));
      for (const { value } of runs) {
        if (!found.has(value.target.kind)) found.set(value.target.kind, value.queuedAtMs);
        last = value.queuedAtMs;
      }
      if (wanted.every(kind => found.has(kind))) return found;
    }
    for (const kind of wanted) if (!found.has(kind)) found.set(kind, last);
    return found;
  }

  async #machines(
    repository: Repository,
    minAgentVersion: string | undefined,
  ): Promise<readonly GaugeValueOf[]> {
    const counts = new Map<string, { readonly labels: GaugeValue['labels']; value: number }>();
    const groups = new Map<string, Group | undefined>();
    for await (const entries of this.#pages(repository, MACHINES_INDEX)) {
      const ids = idsOf(entries);
      const machines = await repository.getMany(MACHINE, ids);
      const presences = new Map(
        (await repository.getMany(PRESENCE, ids)).map(({ id, value }) => [id, value]),
      );
      for (const { id, value: machine } of machines) {
        const groupId = machine.group?.id;
        if (groupId !== undefined && !groups.has(groupId)) {
          groups.set(groupId, (await repository.get(GROUP, groupId))?.value);
        }
        const presence = presences.get(id);
        const group = groupId === undefined ? undefined : groups.get(groupId);
        const reasons = reasonsOf({ machine, presence, group, minAgentVersion });
        const used = machine.isDraining ? await slotsUsed(repository, id) : 0;
        const labels = {
          environment: repository.partition,
          state: machineStateOf(reasons, used),
          presence: presenceStateOf(presence, this.#clock.wallMs()),
        };
        const key = `${labels.state} ${labels.presence}`;
        const count = counts.get(key) ?? { labels, value: 0 };
        count.value += 1;
        counts.set(key, count);
      }
    }
    const name = 'halfway_dispatch_machines';
    return [...counts.values()].map(({ labels, value }) => ({ name, labels, value }));
  }

  /** Pages of an index, from the lowest score, with a turn of the event loop between them. */
  async *#pages(repository: Repository, index: string): AsyncGenerator<readonly IndexEntry[]> {
    let after: IndexEntry | undefined;
    for (let lookedAt = 0; lookedAt < LOOKED_AT_MAX && !this.#isStopped; lookedAt += PAGE) {
      const entries = await repository.range(index, {
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      yield entries;
      after = entries.at(-1);
      if (entries.length < PAGE) return;
      await new Promise<void>(resolve => void this.#clock.after(0, resolve));
    }
  }
}

type GaugeValueOf = GaugeValue & { readonly name: string };

async function runsByState(repository: Repository): Promise<readonly GaugeValueOf[]> {
  const counts = await Promise.all(RUN_STATES.map(state => repository.count(stateIndex(state))));
  return RUN_STATES.map((state, i) => ({
    name: 'halfway_dispatch_runs',
    labels: { environment: repository.partition, state },
    value: counts[i] ?? 0,
  }));
}

async function slotsUsed(repository: Repository, machineId: string): Promise<number> {
  const [unattended, attended] = await Promise.all([
    repository.count(slotsIndex(machineId, 'unattended')),
    repository.count(slotsIndex(machineId, 'attended')),
  ]);
  return unattended + attended;
}

/** `machine:<id>` or `group:<id>`. */
function kindIn(queue: string): TargetKind | undefined {
  return TARGETS.find(kind => queue.startsWith(`${kind}:`));
}

function idsOf(entries: readonly IndexEntry[]): readonly string[] {
  return entries.map(({ member }) => member);
}

function grouped(taken: readonly GaugeValueOf[]): DispatchSample['gauges'] {
  const gauges: Record<string, GaugeValue[]> = {};
  for (const { name, labels, value } of taken) (gauges[name] ??= []).push({ labels, value });
  return gauges;
}
