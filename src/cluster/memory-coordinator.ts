import type { Clock } from '../base/clock.ts';
import type {
  CoordinatorState,
  FeedChange,
  FeedEntry,
  FeedPosition,
  Holder,
  PlacedKey,
  PlacedRow,
  RenewResult,
  RowsPage,
  SeenLease,
  StoredRecord,
  TakeResult,
} from './coordinator.ts';
import { FEED_CHANGES_MAX, FEED_READ_MAX } from './limits.ts';
import { MemoryLink } from './memory-link.ts';
import { digestWith } from './records.ts';

interface KeptNode {
  readonly epoch: string;
  record: StoredRecord;
  digest: number;
  endsAtMs: number;
  readonly rows: Map<string, PlacedRow>;
}

/**
 * A coordinator in this process, shared by the directories that hold a `link()` to it. It takes the
 * same steps as the Lua scripts, each at once, and keeps leases by its own clock.
 */
export class MemoryCoordinator {
  readonly clock: Clock;
  readonly #feedChangesMax: number;
  #incarnation = 1;
  #seq = 0;
  readonly #nodes = new Map<string, KeptNode>();
  /** Row key → holder, by hybrid connection; what the quota counts. */
  readonly #listeners = new Map<string, Map<string, Holder>>();
  #feed: FeedEntry[] = [];
  readonly #readers = new Set<() => void>();

  constructor(clock: Clock, options: { readonly feedChangesMax?: number } = {}) {
    this.clock = clock;
    this.#feedChangesMax = options.feedChangesMax ?? FEED_CHANGES_MAX;
  }

  link(): MemoryLink {
    return new MemoryLink(this);
  }

  /** Forgets everything, as a Redis without persistence does when it restarts. */
  erase(): void {
    this.#incarnation += 1;
    this.#seq = 0;
    this.#feed = [];
    this.#nodes.clear();
    this.#listeners.clear();
  }

  take(
    holder: Holder,
    lease: {
      readonly record: StoredRecord;
      readonly leaseMs: number;
      readonly previousEpoch: string;
    },
  ): TakeResult {
    const nowMs = this.clock.nowMs();
    const held = this.#nodes.get(holder.node);
    const isOurs = held?.epoch === holder.epoch || held?.epoch === lease.previousEpoch;
    if (held !== undefined && !isOurs && held.endsAtMs > nowMs) {
      return { type: 'held', lease: seen(holder.node, held), leftMs: held.endsAtMs - nowMs };
    }
    const endsAtMs = nowMs + lease.leaseMs;
    if (held?.epoch === holder.epoch) {
      held.endsAtMs = endsAtMs;
      return { type: 'taken' };
    }
    if (held !== undefined) this.#drop(holder.node, held);
    const { record } = lease;
    const { epoch } = holder;
    this.#nodes.set(holder.node, { epoch, record, digest: record.part, endsAtMs, rows: new Map() });
    this.#append({ ...holder, type: 'node', record }, record.part);
    return { type: 'taken' };
  }

  renew(holder: Holder, leaseMs: number): RenewResult {
    const kept = this.#held(holder);
    if (kept === undefined) return { type: 'lease-lost' };
    const nowMs = this.clock.nowMs();
    // It moves with every renewal, also with two at the same time: that shows that the node lives.
    const isSame = kept.endsAtMs === nowMs + leaseMs;
    kept.endsAtMs = nowMs + leaseMs + (isSame ? 1 : 0);
    const nodes = [...this.#nodes];
    return {
      type: 'renewed',
      position: this.#position(),
      digests: new Map(nodes.map(([node, { digest }]) => [node, digest])),
      late: nodes
        .filter(([, { endsAtMs }]) => endsAtMs <= nowMs)
        .map(([node, late]) => seen(node, late)),
      garbage: undefined,
    };
  }

  describe(holder: Holder, record: StoredRecord): 'written' | 'lease-lost' {
    const kept = this.#held(holder);
    if (kept === undefined) return 'lease-lost';
    kept.digest = digestWith(kept.digest, record.part, kept.record.part);
    kept.record = record;
    this.#append({ ...holder, type: 'node', record }, kept.digest);
    return 'written';
  }

  leave(holder: Holder): void {
    const kept = this.#held(holder);
    if (kept === undefined) return;
    this.#drop(holder.node, kept);
    this.#append({ ...holder, type: 'node-gone', why: 'left' }, undefined);
  }

  challenge(node: string): SeenLease | undefined {
    const kept = this.#nodes.get(node);
    if (kept === undefined) return undefined;
    this.#append({ node, epoch: kept.epoch, type: 'challenge' }, undefined);
    return seen(node, kept);
  }

  removeNodes(leases: readonly SeenLease[], why: 'expired' | 'expelled'): number {
    let removed = 0;
    for (const { node, expiresAt } of leases) {
      const kept = this.#nodes.get(node);
      if (kept === undefined || seen(node, kept).expiresAt !== expiresAt) continue;
      this.#drop(node, kept);
      this.#append({ node, epoch: kept.epoch, type: 'node-gone', why }, undefined);
      removed += 1;
    }
    return removed;
  }

  claim(
    holder: Holder,
    row: PlacedRow,
    listenersMax: number,
  ): 'claimed' | 'quota-reached' | 'lease-lost' {
    const kept = this.#held(holder);
    if (kept === undefined) return 'lease-lost';
    if (kept.rows.has(row.key)) return 'claimed';
    const nowMs = this.clock.nowMs();
    const others = this.#listeners.get(placeOf(row)) ?? new Map<string, Holder>();
    const live = [...others.values()].filter(({ node, epoch }) => {
      const other = this.#nodes.get(node);
      // Our own rows count even when we are a little late: we are about to renew.
      return other?.epoch === epoch && (other.endsAtMs > nowMs || other === kept);
    });
    if (live.length >= listenersMax) return 'quota-reached';
    this.write(holder, [row]);
    return 'claimed';
  }

  write(holder: Holder, rows: readonly PlacedRow[]): 'written' | 'lease-lost' {
    const kept = this.#held(holder);
    if (kept === undefined) return 'lease-lost';
    for (const row of rows) {
      kept.digest = digestWith(kept.digest, row.part, kept.rows.get(row.key)?.part ?? 0);
      kept.rows.set(row.key, row);
      const place = placeOf(row);
      const listeners = this.#listeners.get(place) ?? new Map<string, Holder>();
      this.#listeners.set(place, listeners.set(row.key, holder));
    }
    this.#append({ ...holder, type: 'rows', rows }, kept.digest);
    return 'written';
  }

  release(holder: Holder, rows: readonly PlacedKey[]): 'released' | 'lease-lost' {
    const kept = this.#held(holder);
    if (kept === undefined) return 'lease-lost';
    const keys = rows.map(({ key }) => key).filter(key => kept.rows.has(key));
    if (keys.length === 0) return 'released';
    for (const key of keys) this.#forget(holder, kept, key);
    this.#append({ ...holder, type: 'released', keys }, kept.digest);
    return 'released';
  }

  state(): CoordinatorState {
    const nodes = [...this.#nodes].map(([node, kept]) => {
      const { epoch, record, digest } = kept;
      return { node, epoch, record, digest, lease: seen(node, kept) };
    });
    return { position: this.#position(), nodes };
  }

  rows(holder: Holder): RowsPage {
    return { rows: [...(this.#held(holder)?.rows.values() ?? [])], next: undefined };
  }

  /** Changes after a position, as many as one read may give; none when there are none yet. */
  changesAfter({ incarnation, seq }: FeedPosition): readonly FeedEntry[] {
    const isPast = incarnation !== String(this.#incarnation);
    const first = this.#feed[0]?.position.seq ?? 0;
    const from = isPast ? 0 : Math.max(0, seq + 1 - first);
    return this.#feed.slice(from, from + FEED_READ_MAX);
  }

  /** Calls `reader` at the next change; the returned function ends that. */
  onChange(reader: () => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  /** How many rows and quota entries are kept, for tests that nothing leaks. */
  get rowsKept(): number {
    return [...this.#nodes.values()].reduce((sum, { rows }) => sum + rows.size, 0);
  }

  #held({ node, epoch }: Holder): KeptNode | undefined {
    const kept = this.#nodes.get(node);
    return kept?.epoch === epoch ? kept : undefined;
  }

  #drop(node: string, kept: KeptNode): void {
    for (const key of kept.rows.keys()) this.#forget({ node, epoch: kept.epoch }, kept, key);
    this.#nodes.delete(node);
  }

  #forget(holder: Holder, kept: KeptNode, key: string): void {
    const row = kept.rows.get(key);
    if (row === undefined) return;
    kept.rows.delete(key);
    kept.digest = digestWith(kept.digest, 0, row.part);
    const place = placeOf(row);
    const listeners = this.#listeners.get(place);
    const owner = listeners?.get(key);
    if (owner?.node === holder.node && owner.epoch === holder.epoch) listeners?.delete(key);
    if (listeners?.size === 0) this.#listeners.delete(place);
  }

  #append(change: FeedChange, digest: number | undefined): void {
    this.#seq += 1;
    this.#feed.push({ position: this.#position(), change, digest });
    if (this.#feed.length > 2 * this.#feedChangesMax) {
      this.#feed = this.#feed.slice(-this.#feedChangesMax);
    }
    const readers = [...this.#readers];
    this.#readers.clear();
    for (const reader of readers) reader();
  }

  #position(): FeedPosition {
    return { incarnation: String(this.#incarnation), seq: this.#seq };
  }
}

function seen(node: string, { endsAtMs }: KeptNode): SeenLease {
  return { node, expiresAt: String(endsAtMs) };
}

function placeOf({ namespace, hybridConnection }: PlacedKey): string {
  return `${namespace}/${hybridConnection}`;
}
