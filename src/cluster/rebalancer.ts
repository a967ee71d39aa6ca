import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { EntityName, Meter, Randomness } from '../relay/ports.ts';
import { averageOf, ENOUGH, surplusOf, wasInVain, type Spread } from './balance.ts';
import type { ListenerDirectory, ListenerRow } from './listener-directory.ts';

/** A control channel, as far as moving it goes. */
export interface MovableListener {
  readonly hybridConnection: { readonly reachable: readonly object[] };
  readonly connectedAtMs: number;
  readonly isLeaving: boolean;
}

/** What of the relay is needed to move its listeners. */
export interface MovingRelay<Listener extends MovableListener> {
  readonly listeners: Iterable<Listener>;
  /** Asks it to connect again. False: not now. */
  moveListener(listener: Listener): boolean;
  /** A listener elsewhere is on its way to another node. */
  expectListener(name: EntityName): void;
}

export interface RebalancerDeps<Listener extends MovableListener> {
  readonly clock: Clock;
  readonly random: Pick<Randomness, 'below'>;
  readonly log: Logger;
  readonly meter: Meter;
  readonly relay: MovingRelay<Listener>;
  readonly directory: Pick<
    ListenerDirectory,
    'self' | 'node' | 'nodes' | 'observe' | 'degradedReasons'
  >;
  /** False: listeners stay where they are; only those of other nodes are looked at. */
  readonly isOn: boolean;
  /** Whether there is a link to a node: one without is suspected, and is not sent any. */
  readonly isLinked: (node: string) => boolean;
  /** Listeners of each node, as the directory knows them; of nodes without any there need be none. */
  readonly listenersByNode: () => ReadonlyMap<string, number>;
  /** At most one round in this time; the other times are parts of it. */
  readonly intervalMs: number;
}

/** Looks, in one interval: also how long nodes must have neither come nor gone before a round. */
const LOOKS = 4;
/** Over which part of the interval the listeners of a round are asked. */
const ROUND_PART = 1 / 3;
/** How often, in that time, one is looked at that could not be asked when its turn came. */
const TRIES = 20;
/** Rounds that did nothing double the wait for the next, so many times: to a quarter of an hour of a minute. */
const DOUBLINGS_MAX = 4;

/** One round that has begun. */
interface Round {
  readonly atMs: number;
  readonly spread: Spread;
  /** Asked so far. */
  moved: number;
}

/**
 * Brings listeners to nodes that have come: whoever holds clearly more than its share asks some of them to
 * connect again, and leaves it to the balancer where they go. Every node decides for itself by what the
 * directory says of all. The order of a round spares senders: of a hybrid connection with several listeners
 * they are asked far apart, and those who have been here longest first, so that nobody is asked over and over.
 */
export class Rebalancer<Listener extends MovableListener> {
  readonly #deps: RebalancerDeps<Listener>;
  #round: Round | undefined;
  #isUnderWay = false;
  #roundsInVain = 0;
  #changedAtMs: number;
  /** Nodes that have more than enough, and so may be asking theirs to move. */
  #crowded: ReadonlySet<string> = new Set();
  readonly #turns = new Set<CancelTimer>();
  #cancelLook: CancelTimer = () => {};
  readonly #stopObserving: () => void;

  constructor(deps: RebalancerDeps<Listener>) {
    this.#deps = deps;
    this.#changedAtMs = deps.clock.nowMs();
    this.#stopObserving = deps.directory.observe(event => {
      if (event.type === 'listener-removed') this.#listenerWent(event.row, event.why);
      else if (event.type.startsWith('node-') || event.type.startsWith('lease-')) this.#changed();
    });
    this.#lookLater();
  }

  stop(): void {
    this.#stopObserving();
    this.#cancelLook();
    this.#endRound();
  }

  /** Nodes came, went, or began to drain: all is looked at anew, when they have come to rest. */
  #changed(): void {
    this.#changedAtMs = this.#deps.clock.nowMs();
    this.#roundsInVain = 0;
    this.#isUnderWay = false;
    this.#endRound();
  }

  /** Senders here wait for one that was most likely asked to move, or whose node is gone. */
  #listenerWent(row: ListenerRow, why: 'released' | 'node-gone'): void {
    const { directory, relay } = this.#deps;
    if (row.node === directory.self().node) return;
    const isDraining = directory.node(row.node)?.state === 'draining';
    if (why === 'node-gone' || isDraining || this.#crowded.has(row.node)) relay.expectListener(row);
  }

  #lookLater(): void {
    const { clock, random, intervalMs } = this.#deps;
    const everyMs = intervalMs / LOOKS;
    // Nodes that look at the same moment would all do the same about it.
    const jitterMs = (everyMs * random.below(100)) / 1_000;
    this.#cancelLook = clock.after(everyMs + jitterMs, () => {
      this.#look();
      this.#lookLater();
    });
  }

  #look(): void {
    const { clock, isOn, intervalMs } = this.#deps;
    const { spread, crowded } = this.#measure();
    this.#crowded = crowded;
    const nowMs = clock.nowMs();
    if (!isOn || !this.#mayMove() || nowMs - this.#changedAtMs < intervalMs / LOOKS) return;
    const last = this.#round;
    const waitMs = intervalMs * 2 ** Math.min(this.#roundsInVain, DOUBLINGS_MAX);
    if (last !== undefined && nowMs - last.atMs < waitMs) return;
    if (this.#isUnderWay && last !== undefined) {
      this.#roundsInVain = wasInVain(last.spread, last.moved, spread) ? this.#roundsInVain + 1 : 0;
    }
    const count = surplusOf(spread, this.#isUnderWay);
    this.#isUnderWay = count > 0;
    if (count > 0) this.#begin(spread, count);
  }

  #measure(): { readonly spread: Spread; readonly crowded: ReadonlySet<string> } {
    const counts = this.#deps.listenersByNode();
    const others = this.#others();
    const countOf = (node: string): number => counts.get(node) ?? 0;
    const spread = { own: countOf(this.#deps.directory.self().node), others: others.map(countOf) };
    const enough = ENOUGH * averageOf(spread);
    return { spread, crowded: new Set(others.filter(node => countOf(node) > enough)) };
  }

  /** Nodes that could take some: not those that drain, nor those we cannot reach. */
  #others(): readonly string[] {
    const { directory, isLinked } = this.#deps;
    const self = directory.self().node;
    return directory
      .nodes()
      .filter(({ node, state }) => node !== self && state === 'active' && isLinked(node))
      .map(({ node }) => node);
  }

  #mayMove(): boolean {
    const { directory } = this.#deps;
    const isWell = directory.self().state === 'active' && directory.degradedReasons().length === 0;
    return isWell && this.#others().length > 0;
  }

  #begin(spread: Spread, count: number): void {
    const { clock, log, meter, intervalMs } = this.#deps;
    this.#endRound();
    const round: Round = { atMs: clock.nowMs(), spread, moved: 0 };
    this.#round = round;
    const overMs = intervalMs * ROUND_PART;
    log.info(
      {
        event: 'Rebalancing',
        listeners: spread.own,
        average: Math.round(averageOf(spread)),
        nodes: spread.others.length + 1,
        asked: count,
        overMs: Math.round(overMs),
      },
      'rebalancing: listeners are asked to connect again',
    );
    meter.count('halfway_rebalancing_rounds_total', {});
    for (const { listener, delayMs } of this.#plan(count, overMs)) {
      this.#after(delayMs, () => this.#turn(round, listener));
    }
  }

  /** Whom to ask, and when: each hybrid connection's listeners evenly over the time, the first ones of all, too. */
  #plan(
    count: number,
    overMs: number,
  ): readonly { readonly listener: Listener; readonly delayMs: number }[] {
    const chosen = choose([...this.#deps.relay.listeners], count);
    const groups = [...grouped(chosen).values()];
    return groups.flatMap((group, g) => {
      const stepMs = overMs / group.length;
      const jitter = this.#deps.random.below(1_000) / 1_000;
      const fromMs = (stepMs * (g + jitter)) / groups.length;
      return group.map((listener, i) => ({ listener, delayMs: fromMs + stepMs * i }));
    });
  }

  #turn(round: Round, listener: Listener): void {
    const { clock, intervalMs, relay } = this.#deps;
    if (listener.isLeaving) return;
    if (!this.#mayMove()) {
      this.#endRound();
      return;
    }
    if (relay.moveListener(listener)) {
      round.moved += 1;
      return;
    }
    // Later, when it has nothing to do or its like are back; or in a later round.
    const overMs = intervalMs * ROUND_PART;
    if (clock.nowMs() - round.atMs >= overMs * 2) return;
    this.#after(overMs / TRIES, () => this.#turn(round, listener));
  }

  #after(delayMs: number, task: () => void): void {
    const cancel = this.#deps.clock.after(delayMs, () => {
      this.#turns.delete(cancel);
      task();
    });
    this.#turns.add(cancel);
  }

  /** Whoever was not asked yet stays. */
  #endRound(): void {
    for (const cancel of this.#turns) cancel();
    this.#turns.clear();
  }
}

/**
 * Those whose hybrid connection has somebody else go first, for nobody has to wait for them: one of each, then a
 * second of each, and so on; of these the ones who have been here longest.
 */
function choose<Listener extends MovableListener>(
  listeners: readonly Listener[],
  count: number,
): readonly Listener[] {
  const oldestFirst = listeners
    .filter(({ isLeaving }) => !isLeaving)
    .toSorted((a, b) => a.connectedAtMs - b.connectedAtMs);
  const ranks = new Map<Listener, number>();
  for (const group of grouped(oldestFirst).values()) {
    for (const [i, listener] of group.entries()) {
      const isOnly = listener.hybridConnection.reachable.length <= 1;
      ranks.set(listener, isOnly ? Number.MAX_SAFE_INTEGER : i);
    }
  }
  const rank = (listener: Listener): number => ranks.get(listener) ?? 0;
  return oldestFirst.toSorted((a, b) => rank(a) - rank(b)).slice(0, count);
}

function grouped<Listener extends MovableListener>(
  listeners: readonly Listener[],
): ReadonlyMap<object, readonly Listener[]> {
  const groups = new Map<object, Listener[]>();
  for (const listener of listeners) {
    const group = groups.get(listener.hybridConnection);
    if (group === undefined) groups.set(listener.hybridConnection, [listener]);
    else group.push(listener);
  }
  return groups;
}
