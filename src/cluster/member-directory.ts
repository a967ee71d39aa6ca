import { assert, unreachable } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { Announcer } from './announcer.ts';
import { Claims } from './claims.ts';
import { CoordinatorError, type Coordinator, type FeedChange } from './coordinator.ts';
import { DirectoryView } from './directory-view.ts';
import { FeedFollower } from './feed-follower.ts';
import { DirectoryHealth, type Attempt } from './health.ts';
import { Heartbeat } from './heartbeat.ts';
import { LeaseUpkeep } from './lease-upkeep.ts';
import { Lease } from './lease.ts';
import { ANNOUNCED_ROWS_MAX, type DirectoryTimes } from './limits.ts';
import type {
  Announcements,
  ClaimResult,
  DegradedReason,
  DirectoryEvent,
  DirectoryStats,
  JoinResult,
  ListenerClaim,
  ListenerDirectory,
  ListenerRow,
  MeshVersions,
  NodeRecord,
  NodeState,
  SuspicionResult,
} from './listener-directory.ts';
import { ListenerIndex } from './listener-index.ts';
import { OwnListeners } from './own-listeners.ts';
import { isNodeId } from './records.ts';
import { RemoteRows } from './remote-rows.ts';
import { Suspicions } from './suspicions.ts';

export interface MemberDirectoryDeps {
  readonly coordinator: Coordinator;
  readonly clock: Clock;
  readonly times: DirectoryTimes;
  readonly node: string;
  readonly meshAddress: string;
  readonly versions: MeshVersions;
  /** Told of what should never happen; the directory cannot go on then. */
  readonly reportBug: (bug: unknown) => void;
}

/**
 * A node's directory over a coordinator, whichever that is. Every `renewMs` it does one beat: renews
 * the lease (or takes a new one), compares what everybody has with the coordinator, and puts right what
 * differs. Changes of others arrive through the feed between beats.
 */
export class MemberDirectory implements ListenerDirectory {
  readonly #coordinator: Coordinator;
  readonly #clock: Clock;
  readonly #times: DirectoryTimes;
  readonly #reportBug: (bug: unknown) => void;
  readonly #observers = new Set<(event: DirectoryEvent) => void>();
  readonly #health = new DirectoryHealth(event => this.#emit(event));
  readonly #index = new ListenerIndex();
  readonly #lease: Lease;
  readonly #own: OwnListeners;
  readonly #view: DirectoryView;
  readonly #remote: RemoteRows;
  readonly #announcer: Announcer;
  readonly #follower: FeedFollower;
  readonly #claims: Claims;
  readonly #suspicions: Suspicions;
  readonly #upkeep: LeaseUpkeep;
  readonly #heartbeat: Heartbeat;
  #isChecked = false;
  #isJoined = false;
  #isClosed = false;
  /** A start waits for having caught up, which is an event for nobody else. */
  #endFirstWait: () => void = () => {};

  constructor(deps: MemberDirectoryDeps) {
    assert(isNodeId(deps.node), 'a node id is 1 to 64 letters, digits, ".", "_" or "-"');
    const { coordinator, clock, times } = deps;
    this.#coordinator = coordinator;
    this.#clock = clock;
    this.#times = times;
    this.#reportBug = deps.reportBug;
    this.#lease = new Lease(deps);
    this.#own = new OwnListeners(coordinator, {
      added: (row, at) => {
        this.#add(row);
        this.#announcer.added(row, at);
      },
      removed: (row, at) => {
        this.#remove(row, 'released');
        this.#announcer.removed(row, at);
      },
      renamed: (before, after) => this.#index.replace(before, after),
    });
    this.#announcer = new Announcer({
      clock,
      own: this.#own,
      holder: () => this.#lease.holder,
      isForgotten: () => this.#lease.mayBeOver,
      onUntold: () =>
        this.#health.warn(
          `More than ${ANNOUNCED_ROWS_MAX} listeners came or went here without the coordinator: others learn of further ones when it is back`,
        ),
    });
    this.#view = new DirectoryView(deps.node, {
      listenerAdded: row => this.#remote.viewed(row),
      listenerRemoved: (row, why) => this.#remote.unviewed(row, why),
      nodeJoined: node => this.#emit({ type: 'node-joined', node }),
      nodeChanged: node => this.#emit({ type: 'node-changed', node }),
      nodeGone: (node, why) => this.#emit({ type: 'node-gone', node, why }),
      warning: message => this.#health.warn(message),
    });
    this.#remote = new RemoteRows({
      clock,
      settleMs: times.announcementSettleMs,
      view: this.#view,
      isOwn: key => this.#own.has(key),
      isAway: () => this.#announcer.isAway,
      observer: {
        added: row => this.#add(row),
        removed: (row, why) => this.#remove(row, why),
        replaced: (before, after) => this.#index.replace(before, after),
        warning: message => this.#health.warn(message),
      },
    });
    const attempt: Attempt = take => this.#try(take);
    this.#claims = new Claims({
      coordinator,
      lease: this.#lease,
      own: this.#own,
      index: this.#index,
      remote: this.#remote,
      attempt,
      onLeaseLost: () => this.#beatNow(),
    });
    this.#suspicions = new Suspicions({
      coordinator,
      clock,
      times,
      lease: this.#lease,
      attempt,
      isKnown: node => this.#view.node(node) !== undefined,
    });
    this.#follower = new FeedFollower({
      coordinator,
      clock,
      times,
      view: this.#view,
      self: deps.node,
      onOwnChange: change => this.#hearOfSelf(change),
      onBehind: () => {
        this.#health.degrade('catching-up');
        this.#beatNow();
      },
      onCaughtUp: () => {
        this.#health.recover('catching-up');
        this.#endFirstWait();
      },
      onDoubt: nodes => {
        this.#suspicions.doubt(nodes).catch(this.#reportBug);
      },
      onUnusable: message => this.#noteUnusable(message),
    });
    this.#upkeep = new LeaseUpkeep({
      coordinator,
      lease: this.#lease,
      own: this.#own,
      follower: this.#follower,
      onLost: epoch => {
        this.#emit({ type: 'lease-lost', epoch });
        this.#lease.lose();
        this.#degrade('lease-lost');
      },
      onTaken: epoch => this.#emit({ type: 'lease-taken', epoch }),
      onMore: () => this.#beatNow(),
      isClosed: () => this.#isClosed,
    });
    this.#heartbeat = new Heartbeat({
      clock,
      everyMs: times.renewMs,
      beat: async () => this.#try(() => this.#beatOnce()),
      mayRepeat: () => coordinator.isUp,
      reportBug: this.#reportBug,
    });
  }

  async join(): Promise<JoinResult> {
    this.#coordinator.onUpChange(isUp => this.#noteUp(isUp));
    const result = await this.#joinNow();
    if (result.type === 'refused') {
      await this.leave();
      return result;
    }
    this.#isJoined = true;
    this.#follower.follow().catch(this.#reportBug);
    if (result.type === 'alone') {
      this.#degrade('coordinator-away');
      this.#heartbeat.later();
    } else {
      await this.#firstBeat();
    }
    return result;
  }

  async claim(
    claim: ListenerClaim,
    { listenersMax }: { readonly listenersMax: number },
  ): Promise<ClaimResult> {
    return this.#claims.claim(claim, listenersMax);
  }

  async release(key: string): Promise<void> {
    return this.#claims.release(key);
  }

  readonly announcements: Announcements = {
    sendThrough: send => this.#announcer.sendThrough(send),
    linkUp: node => {
      this.#suspicions.clear(node);
      this.#announcer.linkUp(node);
    },
    linkDown: node => {
      this.#announcer.linkDown(node);
      this.#remote.linkDown(node);
    },
    drained: node => this.#announcer.drained(node),
    heard: (from, announcement) => {
      this.#remote.heard(from, announcement);
      this.#announcer.peerIsAway(from, this.#remote.isAway(from));
    },
    isAway: node => this.#remote.isAway(node),
  };

  listenersOf(namespace: string, hybridConnection: string): readonly ListenerRow[] {
    return this.#index.of(namespace, hybridConnection);
  }

  nodes(): readonly NodeRecord[] {
    return [this.self(), ...this.#view.nodes()];
  }

  node(id: string): NodeRecord | undefined {
    return id === this.#lease.holder.node ? this.self() : this.#view.node(id);
  }

  self(): NodeRecord {
    return this.#lease.record;
  }

  async setState(state: NodeState): Promise<void> {
    this.#lease.setState(state);
    this.#emit({ type: 'node-changed', node: this.self() });
    if (this.#coordinator.isUp) await this.#try(() => this.#lease.describe());
  }

  async suspect(node: string): Promise<SuspicionResult> {
    return this.#suspicions.suspect(node);
  }

  degradedReasons(): readonly DegradedReason[] {
    return this.#health.reasons;
  }

  warnings(): readonly string[] {
    return this.#health.warnings;
  }

  stats(): DirectoryStats {
    const coordinator = this.#coordinator;
    return {
      isCoordinatorUp: coordinator.isUp,
      leaseAgeMs: this.#lease.ageMs,
      nodes: this.nodes().length,
      ownRows: this.#own.size,
      remoteRows: this.#remote.size,
      unwrittenRows: this.#own.unwritten,
      feedLag: this.#follower.lag,
      changesApplied: this.#follower.changesApplied,
      commands: coordinator.commands,
      commandFailures: coordinator.commandFailures,
      leasesLost: this.#lease.losses,
      reconciliations: { ...this.#follower.reconciliations },
      rowsRepaired: this.#own.repaired,
      rowsIgnored: this.#view.ignored,
      nodesRemoved: this.#upkeep.expired + this.#suspicions.expelled,
      announcedRows: this.#remote.announced,
      announcementsRefused: { ...this.#remote.refused },
      announcementsUntold: this.#announcer.untold,
    };
  }

  observe(observer: (event: DirectoryEvent) => void): () => void {
    this.#observers.add(observer);
    return () => this.#observers.delete(observer);
  }

  async leave(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#heartbeat.stop();
    this.#follower.stop();
    this.#remote.close();
    if (this.#coordinator.isUp) await this.#try(() => this.#lease.giveUp());
    this.#coordinator.close();
  }

  async #joinNow(): Promise<JoinResult> {
    const { joinTimeoutMs } = this.#times;
    try {
      if (!(await this.#coordinator.untilUp(joinTimeoutMs))) {
        return {
          type: 'alone',
          message: `The coordinator was not there within ${joinTimeoutMs} ms`,
        };
      }
      const refusal = await this.#check();
      if (refusal !== undefined) return { type: 'refused', message: refusal };
      if (await this.#lease.takeFirst()) return { type: 'joined' };
      const message = `Another live node has the id "${this.#lease.holder.node}": give each node an id of its own`;
      return { type: 'refused', message };
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      return { type: error.kind === 'away' ? 'alone' : 'refused', message: error.message };
    }
  }

  async #firstBeat(): Promise<void> {
    await this.#heartbeat.beat();
    if (this.#follower.isCurrent || this.#isClosed) return;
    await new Promise<void>(resolve => {
      const cancel = this.#clock.after(this.#times.joinTimeoutMs, resolve);
      this.#endFirstWait = () => {
        cancel();
        resolve();
      };
    });
  }

  #beatNow(): void {
    if (this.#isJoined) this.#heartbeat.now();
  }

  async #beatOnce(): Promise<void> {
    if (!this.#coordinator.isUp) {
      this.#degrade('coordinator-away');
      return;
    }
    if (!this.#isChecked) {
      const refusal = await this.#check();
      if (refusal !== undefined) {
        this.#noteUnusable(refusal);
        return;
      }
    }
    const lease = await this.#upkeep.keep();
    if (lease === 'id-taken') {
      this.#health.recover('coordinator-away');
      this.#degrade('node-id-taken');
    }
    if (lease !== 'held') return;
    this.#health.recover('coordinator-away', 'coordinator-unusable', 'node-id-taken');
    await this.#lease.describe();
    await this.#follower.reconcile();
    if ((await this.#claims.flush()) === 'lease-lost') this.#beatNow();
    else if (this.#own.unwritten === 0 && this.#coordinator.isUp) this.#noteWhole();
    this.#suspicions.again().catch(this.#reportBug);
  }

  /** The coordinator has all that is ours, so that nobody has to be told of it by us. */
  #noteWhole(): void {
    this.#health.recover('lease-lost');
    if (!this.#announcer.isAway) return;
    this.#announcer.back();
    this.#remote.back();
  }

  async #check(): Promise<string | undefined> {
    const { refusal, warnings } = await this.#coordinator.check();
    this.#isChecked = refusal === undefined;
    for (const warning of warnings) this.#health.warn(warning);
    return refusal;
  }

  #hearOfSelf(change: FeedChange): void {
    const isOurs = change.epoch === this.#lease.holder.epoch;
    switch (change.type) {
      case 'challenge':
        if (!isOurs) break;
        this.#own.suspectAll();
        this.#beatNow();
        break;
      case 'node-gone':
        if (isOurs && !this.#isClosed) this.#beatNow();
        break;
      case 'node':
        if (!isOurs) this.#beatNow();
        break;
      case 'rows':
      case 'released':
      case 'unknown':
        break;
      default:
        unreachable(change);
    }
  }

  #noteUp(isUp: boolean): void {
    if (this.#isClosed) return;
    if (isUp) {
      this.#follower.wake();
      this.#beatNow();
    } else {
      this.#noteAway();
    }
  }

  #noteAway(): void {
    this.#isChecked = false;
    this.#lease.noteAway();
    this.#degrade('coordinator-away');
  }

  #noteUnusable(message: string): void {
    this.#health.warn(message);
    this.#degrade('coordinator-unusable');
  }

  /** The coordinator cannot tell others of us: we do it ourselves. */
  #degrade(why: DegradedReason): void {
    this.#health.degrade(why);
    this.#announcer.away();
  }

  /** Runs a step; its failure at the coordinator becomes a state of health and undefined. */
  async #try<Result>(take: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await take();
    } catch (error) {
      if (!(error instanceof CoordinatorError)) throw error;
      if (this.#isClosed) return undefined;
      if (error.kind === 'away') this.#noteAway();
      else this.#noteUnusable(error.message);
      return undefined;
    }
  }

  #add(row: ListenerRow): void {
    this.#index.add(row);
    this.#emit({ type: 'listener-added', row });
  }

  #remove(row: ListenerRow, why: 'released' | 'node-gone'): void {
    this.#index.remove(row);
    this.#emit({ type: 'listener-removed', row, why });
  }

  #emit(event: DirectoryEvent): void {
    for (const observer of this.#observers) observer(event);
  }
}
