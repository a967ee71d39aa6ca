import type { CancelTimer, Clock } from '../base/clock.ts';
import {
  CoordinatorError,
  type Coordinator,
  type FeedEntry,
  type FeedPosition,
  type Holder,
  type StoredRow,
} from './coordinator.ts';
import type { DirectoryView } from './directory-view.ts';
import type { DirectoryTimes } from './limits.ts';
import type { ReconciliationReason } from './listener-directory.ts';

export interface FeedFollowerDeps {
  readonly coordinator: Coordinator;
  readonly view: DirectoryView;
  readonly clock: Clock;
  readonly times: DirectoryTimes;
  readonly self: string;
  /** A change that concerns our own node: somebody suspects us, or removed us. */
  readonly onOwnChange: (change: FeedEntry['change']) => void;
  /** The whole must be read again; `reconcile` is called by whoever may take the time. */
  readonly onBehind: () => void;
  readonly onCaughtUp: () => void;
  /** What the coordinator has of these nodes contradicts itself: only they can put it right. */
  readonly onDoubt: (nodes: readonly string[]) => void;
  /** A read failed for want of rights or for foreign data; being away is no news here. */
  readonly onUnusable: (message: string) => void;
}

/** What a renewal said about the whole, at one point of the feed. */
interface Checkpoint {
  readonly position: FeedPosition;
  readonly digests: ReadonlyMap<string, number>;
}

/**
 * Keeps the view up to date: applies the feed change by change, and asks for the whole when changes
 * were missed.
 *
 *     behind ── reconcile ──▶ replaying ── the snapshot's end reached, digests agree ──▶ current
 *     replaying or current ── gap, digests differ, stalled, rolled back ──▶ behind
 *
 * A snapshot is read in pieces while changes go on, so the first state after it is `replaying`: it is
 * right only when the changes since its beginning have been applied.
 */
export class FeedFollower {
  readonly #deps: FeedFollowerDeps;
  #state: 'behind' | 'replaying' | 'current' = 'behind';
  #why: ReconciliationReason = 'joined';
  #position: FeedPosition | undefined;
  /** End of the snapshot while replaying; afterwards the last renewal that lies ahead of us. */
  #checkpoint: Checkpoint | undefined;
  /** Where we were at the last renewal, to see that we move. */
  #seqAtRenewal = -1;
  #isReconciling = false;
  #reconciledAtMs = Number.NEGATIVE_INFINITY;
  /** Of being asked again, when it was too soon to read the whole. */
  #cancelRetry: CancelTimer = () => {};
  #isStopped = false;
  /** Whoever waits until there is a position to read from. */
  #wake: (() => void) | undefined;
  changesApplied = 0;
  lag = 0;
  readonly reconciliations: Record<ReconciliationReason, number> = {
    joined: 0,
    gap: 0,
    diverged: 0,
    stalled: 0,
    'rolled-back': 0,
  };

  constructor(deps: FeedFollowerDeps) {
    this.#deps = deps;
  }

  get isCurrent(): boolean {
    return this.#state === 'current';
  }

  get position(): FeedPosition | undefined {
    return this.#position;
  }

  /** Follows until stopped. Never rejects but for a bug. */
  async follow(): Promise<void> {
    const { coordinator, times } = this.#deps;
    while (!this.#isStopped) {
      const from = this.#position;
      if (from === undefined || this.#state === 'behind' || !coordinator.isUp) {
        await this.#untilWoken();
        continue;
      }
      try {
        const entries = await coordinator.read(from, times.feedWaitMs);
        // A snapshot may have moved us meanwhile.
        if (this.#position === from && !this.#isStopped) this.#applyAll(entries);
      } catch (error) {
        if (!(error instanceof CoordinatorError)) throw error;
        if (error.kind === 'unusable') this.#deps.onUnusable(error.message);
        await this.#pause(times.feedRetryMs);
      }
    }
  }

  /** To be called when the coordinator is up again. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelRetry();
    this.wake();
  }

  /** Compares with what a renewal said; `sentAt` is where we were when it was sent. */
  check(checkpoint: Checkpoint, sentAt: FeedPosition | undefined): void {
    const { position } = checkpoint;
    const at = this.#position;
    this.lag = at === undefined ? position.seq : Math.max(0, position.seq - at.seq);
    if (this.#state === 'behind' || at === undefined || sentAt === undefined) return;
    const isRolledBack = position.incarnation !== at.incarnation || position.seq < sentAt.seq;
    const isStalled = this.lag > 0 && at.seq === this.#seqAtRenewal;
    this.#seqAtRenewal = this.lag > 0 ? at.seq : -1;
    if (isRolledBack || isStalled) {
      this.#fallBehind(isRolledBack ? 'rolled-back' : 'stalled');
      // What it waits for, after a position that no longer exists, may never come.
      this.#deps.coordinator.endRead();
    } else if (this.#state === 'current' && position.seq >= at.seq) {
      this.#checkpoint = checkpoint;
      this.#compare();
    }
  }

  /**
   * Reads the whole if we are behind, but not more often than twice in a renewal: what cannot agree must
   * not become a flood. When it is too soon, `onBehind` is called again as soon as it is not. Rejects with
   * `CoordinatorError`; then we are still behind.
   */
  async reconcile(): Promise<void> {
    if (this.#state !== 'behind' || this.#isReconciling) return;
    const nowMs = this.#deps.clock.nowMs();
    const waitMs = this.#reconciledAtMs + this.#deps.times.renewMs / 2 - nowMs;
    if (waitMs > 0) {
      this.#retryIn(waitMs);
      return;
    }
    this.#reconciledAtMs = nowMs;
    this.#isReconciling = true;
    try {
      const { coordinator, view } = this.#deps;
      this.reconciliations[this.#why] += 1;
      const state = await coordinator.state();
      for (const entry of view.begin(state)) view.replace(entry, await this.#readRows(entry));
      const end = await coordinator.state();
      this.#position = state.position;
      this.#seqAtRenewal = -1;
      this.#checkpoint = {
        position: end.position,
        digests: new Map(end.nodes.map(({ node, digest }) => [node, digest])),
      };
      this.#state = 'replaying';
      this.#compare();
      this.wake();
    } finally {
      this.#isReconciling = false;
    }
  }

  #retryIn(ms: number): void {
    this.#cancelRetry();
    if (this.#isStopped) return;
    this.#cancelRetry = this.#deps.clock.after(ms, () => {
      if (this.#state === 'behind') this.#deps.onBehind();
    });
  }

  #applyAll(entries: readonly FeedEntry[]): void {
    for (const entry of entries) {
      const { position } = entry;
      const at = this.#position;
      if (at === undefined || this.#state === 'behind') return;
      if (position.incarnation !== at.incarnation || position.seq !== at.seq + 1) {
        this.#fallBehind('gap');
        return;
      }
      const agrees = this.#deps.view.apply(entry);
      this.#position = position;
      this.changesApplied += 1;
      if (!agrees && this.#state === 'current') {
        this.#fallBehind('diverged');
        return;
      }
      if (entry.change.node === this.#deps.self) this.#deps.onOwnChange(entry.change);
      this.#compare();
    }
  }

  /** Compares the digests if we are where the checkpoint was taken. */
  #compare(): void {
    const checkpoint = this.#checkpoint;
    const at = this.#position;
    if (checkpoint === undefined || at === undefined) return;
    const { incarnation, seq } = checkpoint.position;
    if (incarnation !== at.incarnation || seq < at.seq) {
      // Behind a snapshot's end there must be a moment that we compare; a renewal may be overtaken.
      if (this.#state === 'replaying') this.#fallBehind('rolled-back');
      this.#checkpoint = undefined;
      return;
    }
    if (seq > at.seq) return;
    this.#checkpoint = undefined;
    const differing = this.#deps.view.differing(checkpoint.digests);
    if (differing.length > 0) {
      if (this.#state === 'replaying') this.#deps.onDoubt(differing);
      this.#fallBehind('diverged');
    } else if (this.#state === 'replaying') {
      this.#state = 'current';
      this.#deps.onCaughtUp();
    }
  }

  #fallBehind(why: ReconciliationReason): void {
    this.#state = 'behind';
    this.#why = why;
    this.#checkpoint = undefined;
    this.#deps.onBehind();
  }

  async #readRows(holder: Holder): Promise<readonly StoredRow[]> {
    const rows: StoredRow[] = [];
    let from: string | undefined;
    do {
      const page = await this.#deps.coordinator.rows(holder, from);
      rows.push(...page.rows);
      from = page.next;
    } while (from !== undefined);
    return rows;
  }

  async #untilWoken(): Promise<void> {
    await new Promise<void>(resolve => {
      this.#wake = resolve;
    });
  }

  async #pause(ms: number): Promise<void> {
    let cancel: CancelTimer | undefined;
    await new Promise<void>(resolve => {
      cancel = this.#deps.clock.after(ms, resolve);
      this.#wake = resolve;
    });
    cancel?.();
  }
}
