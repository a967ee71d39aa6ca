import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import type { Chores } from './chores.ts';
import type { DispatchKeys } from './dispatch-key.ts';
import type { Environments } from './environments.ts';
import type { MachineSender } from './machine-sender.ts';
import { Offers, type OfferOutcome } from './offers.ts';
import { Placement } from './placement.ts';
import { QueueKeeper, type Served } from './queue-keeper.ts';
import { Reaper } from './reaper.ts';
import { Repository } from './repository.ts';
import { RunChanges } from './run-changes.ts';
import { QUEUES_INDEX } from './run-indexes.ts';
import type { Run } from './run-record.ts';
import { isTarget, QueueTimes } from './queue-times.ts';
import { Work } from './work.ts';

/** Queues that are served at the same time. */
const SERVED_AT_ONCE = 16;
const QUEUES_AT_A_TIME = 500;
/** After a failure, as when the store was away. */
const AFTER_FAILURE_MS = 5_000;

export interface DispatcherParts {
  readonly store: DispatchStore;
  readonly environments: Environments;
  readonly sender: MachineSender;
  readonly keys: DispatchKeys;
  readonly clock: Clock;
  /** From 0 to but not 1. */
  readonly random: () => number;
  readonly log: Logger;
  /** `waitedMs`: since the run was queued. */
  readonly onOffer?: (outcome: OfferOutcome, waitedMs: number) => void;
  /** What else is to be done in an environment; undefined: nothing. */
  readonly choresOf?: (environment: string) => Chores;
}

/** Dispatch in one environment: which queues are to be served, and when. */
export class EnvironmentDispatch {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #parts: DispatcherParts;
  readonly #repository: Repository;
  readonly #keeper: QueueKeeper;
  readonly #offers: Offers;
  readonly #reaper: Reaper;
  readonly #chores: Chores | undefined;
  readonly #work = new Work();
  readonly #times: QueueTimes;
  readonly #timers = new Map<string, CancelTimer>();
  /** Asked for and not yet begun, in the order of asking. */
  readonly #due = new Set<string>();
  /** Being served; true: something changed meanwhile. */
  readonly #served = new Map<string, boolean>();

  constructor(parts: DispatcherParts, environment: string) {
    const { store, clock, log, sender, keys, random, environments } = parts;
    const repository = new Repository(store, environment);
    const changes = new RunChanges(repository, clock);
    const minAgentVersion = async (): Promise<string | undefined> =>
      (await environments.find(environment))?.value.minAgentVersion;
    const placement = new Placement({ repository, changes, clock, random, minAgentVersion });
    this.#parts = parts;
    this.#chores = parts.choresOf?.(environment);
    this.#clock = clock;
    this.#log = log;
    this.#repository = repository;
    this.#times = new QueueTimes();
    this.#keeper = new QueueKeeper(repository, placement);
    this.#offers = new Offers({ repository, changes, sender, keys, clock });
    const pushCancel = (run: Run): void => this.pushCancel(run);
    this.#reaper = new Reaper({ repository, changes, placement, clock, pushCancel });
  }

  /** What the store's `watch` told. */
  onTopics(topics: readonly string[]): void {
    this.#chores?.onTopics(topics);
    for (const topic of topics) {
      const [what, kind = '', id = ''] = topic.split(':');
      if (what === 'q') this.#wake(`${kind}:${id}`);
      // A slot, or a machine that is there again or may be asked again.
      if (what === 'slots' || what === 'wake') this.#wakeFor(kind);
      if (what === 'members' || what === 'wake-group') this.#wake(`group:${kind}`);
    }
  }

  /** Wakes every queue that may have somebody waiting. */
  async lookAtAll(): Promise<void> {
    let after: { readonly member: string; readonly score: number } | undefined;
    for (;;) {
      const entries = await this.#repository.range(QUEUES_INDEX, {
        limit: QUEUES_AT_A_TIME,
        ...(after === undefined ? {} : { after }),
      });
      for (const { member } of entries) this.#wake(member);
      after = entries.at(-1);
      if (entries.length < QUEUES_AT_A_TIME) return;
    }
  }

  async sweep(): Promise<void> {
    this.#chores?.sweep();
    await this.#work.track(this.#reaper.sweep());
  }

  pushCancel(run: Run): void {
    this.#background('a machine could not be told to end a run', this.#offers.sendCancel(run), run);
  }

  async stop(): Promise<void> {
    this.#due.clear();
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    await Promise.all([this.#work.stop(), this.#chores?.stop()]);
  }

  #wakeFor(machineId: string): void {
    for (const queue of this.#times.blockedBy(machineId)) this.#wake(queue);
    // Whoever is being served may have looked at this machine just before it changed.
    for (const queue of this.#served.keys()) {
      if (queue === `machine:${machineId}` || queue.startsWith('group:')) this.#wake(queue);
    }
  }

  #wake(queue: string): void {
    if (this.#work.isStopped) return;
    if (this.#served.has(queue)) {
      this.#served.set(queue, true);
      return;
    }
    this.#due.add(queue);
    this.#serveMore();
  }

  #serveMore(): void {
    for (const queue of this.#due) {
      if (this.#served.size >= SERVED_AT_ONCE) return;
      this.#due.delete(queue);
      this.#served.set(queue, false);
      this.#timers.get(queue)?.();
      this.#timers.delete(queue);
      this.#background('a queue could not be served', this.#serve(queue));
    }
  }

  async #serve(queue: string): Promise<void> {
    let again: number | undefined = AFTER_FAILURE_MS;
    try {
      const [kind = '', id = ''] = queue.split(':');
      const target = { kind, id };
      if (!isTarget(target)) return;
      const served = await this.#work.track(this.#keeper.serve(target, run => this.#offer(run)));
      again = this.#againIn(queue, served);
    } finally {
      const isDirty = this.#served.get(queue) === true;
      this.#served.delete(queue);
      if (!this.#work.isStopped) {
        if (isDirty) this.#due.add(queue);
        else if (again !== undefined) this.#wakeIn(queue, again);
        this.#serveMore();
      }
    }
  }

  #againIn(queue: string, served: Served): number | undefined {
    if (served.type === 'empty') {
      this.#times.forget(queue);
      return undefined;
    }
    return this.#times.blocked(queue, served, this.#clock.wallMs());
  }

  #wakeIn(queue: string, delayMs: number): void {
    this.#timers.get(queue)?.();
    this.#timers.set(
      queue,
      this.#clock.after(delayMs, () => this.#wake(queue)),
    );
  }

  #offer(run: Run): void {
    const offered = async (): Promise<void> => {
      const outcome = await this.#offers.make(run);
      this.#parts.onOffer?.(outcome, this.#clock.wallMs() - run.queuedAtMs);
      // The reaper would find it when the lease is over; those who wait behind it need not.
      if (outcome !== 'accepted') this.#wake(`${run.target.kind}:${run.target.id}`);
    };
    this.#background('a run could not be offered', offered(), run);
  }

  /** A failure is no loss: leases end, queues are looked at again. */
  #background(what: string, promise: Promise<void>, run?: Run): void {
    const tracked = this.#work.track(promise);
    tracked.catch((error: unknown) => {
      const environment = this.#repository.partition;
      this.#log.warn({ err: error, environment, runId: run?.id }, what);
    });
  }
}
