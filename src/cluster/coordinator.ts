// What keeps the cluster's directory, as one node talks to it. Redis is one (redis-coordinator.ts); an
// object in this process is the other (memory-coordinator.ts). All that must be one step for several
// nodes at once is a method here; everything else is the directory's business.

/** A point in the feed. A new incarnation begins when the coordinator started empty. */
export interface FeedPosition {
  readonly incarnation: string;
  /** Number of the last change, counted by ones. */
  readonly seq: number;
}

/** A row as it is kept: its key, its digest part (digest.ts) and the rest as text (records.ts). */
export interface StoredRow {
  readonly key: string;
  readonly part: number;
  readonly text: string;
}

export interface StoredRecord {
  readonly part: number;
  readonly text: string;
}

/** A row, and the hybrid connection whose quota it counts in. */
export interface PlacedRow extends StoredRow {
  readonly namespace: string;
  readonly hybridConnection: string;
}

export type PlacedKey = Pick<PlacedRow, 'key' | 'namespace' | 'hybridConnection'>;

/** One life of a node. */
export interface Holder {
  readonly node: string;
  readonly epoch: string;
}

/** A lease as it was seen; it has moved when `expiresAt` is another. Compared, never interpreted. */
export interface SeenLease {
  readonly node: string;
  readonly expiresAt: string;
}

export type FeedChange =
  /** A node appeared, came back under a new epoch (its old rows are gone), or changed its record. */
  | (Holder & { readonly type: 'node'; readonly record: StoredRecord })
  | (Holder & { readonly type: 'node-gone'; readonly why: 'expired' | 'left' | 'expelled' })
  | (Holder & { readonly type: 'rows'; readonly rows: readonly StoredRow[] })
  | (Holder & { readonly type: 'released'; readonly keys: readonly string[] })
  /** Somebody suspects the node: it renews its lease at once to show that it lives. */
  | (Holder & { readonly type: 'challenge' })
  /** Not readable: foreign, or of a later version. */
  | (Holder & { readonly type: 'unknown' });

export interface FeedEntry {
  readonly position: FeedPosition;
  readonly change: FeedChange;
  /** Digest of the node after the change; undefined where it has none. */
  readonly digest: number | undefined;
}

export interface NodeEntry extends Holder {
  readonly record: StoredRecord;
  readonly digest: number;
  readonly lease: SeenLease | undefined;
}

/** All nodes at one point of the feed. */
export interface CoordinatorState {
  readonly position: FeedPosition;
  readonly nodes: readonly NodeEntry[];
}

export type TakeResult =
  | { readonly type: 'taken' }
  /** Another epoch holds a live lease of this node id. */
  | { readonly type: 'held'; readonly lease: SeenLease; readonly leftMs: number };

export type RenewResult =
  | {
      readonly type: 'renewed';
      readonly position: FeedPosition;
      /** Of every node, at that position. */
      readonly digests: ReadonlyMap<string, number>;
      /** Leases that have run out and were not removed yet. */
      readonly late: readonly SeenLease[];
      /** An epoch that is over and has rows left, if any. */
      readonly garbage: Holder | undefined;
    }
  | { readonly type: 'lease-lost' };

export interface RowsPage {
  readonly rows: readonly StoredRow[];
  /** Where the next page begins; undefined after the last. A row may be in two pages. */
  readonly next: string | undefined;
}

export interface CoordinatorCheck {
  /** What is wrong and what to do; undefined when it can be used. */
  readonly refusal?: string;
  readonly warnings: readonly string[];
}

/**
 * Every method rejects with `CoordinatorError` and nothing else. After `away` it is unknown whether
 * the step was taken.
 */
export interface Coordinator {
  readonly isUp: boolean;
  readonly commands: number;
  readonly commandFailures: number;
  onUpChange(observer: (isUp: boolean) => void): void;
  untilUp(timeoutMs: number): Promise<boolean>;
  check(): Promise<CoordinatorCheck>;

  /** Takes the node's lease; rows of `previousEpoch` are void from then on. */
  take(
    holder: Holder,
    lease: {
      readonly record: StoredRecord;
      readonly leaseMs: number;
      readonly previousEpoch: string;
    },
  ): Promise<TakeResult>;
  /** Extends the lease if it is still there, even if it ran out a moment ago. It moves in any case. */
  renew(holder: Holder, leaseMs: number): Promise<RenewResult>;
  describe(holder: Holder, record: StoredRecord): Promise<'written' | 'lease-lost'>;
  leave(holder: Holder): Promise<void>;
  /** Announces a suspicion; the lease as it stands, or undefined when there is none. */
  challenge(node: string): Promise<SeenLease | undefined>;
  /** Removes those whose lease has not moved since it was seen; how many there were. */
  removeNodes(leases: readonly SeenLease[], why: 'expired' | 'expelled'): Promise<number>;

  /** Adds a row if fewer than `listenersMax` live ones are there. Claimed again by the same holder: claimed. */
  claim(
    holder: Holder,
    row: PlacedRow,
    listenersMax: number,
  ): Promise<'claimed' | 'quota-reached' | 'lease-lost'>;
  /** Adds rows without asking for the quota; at most `ROWS_PER_WRITE_MAX`. */
  write(holder: Holder, rows: readonly PlacedRow[]): Promise<'written' | 'lease-lost'>;
  /** Removes rows, those not there silently; at most `ROWS_PER_WRITE_MAX`. */
  release(holder: Holder, rows: readonly PlacedKey[]): Promise<'released' | 'lease-lost'>;

  state(): Promise<CoordinatorState>;
  rows(holder: Holder, from: string | undefined): Promise<RowsPage>;
  /** Deletes some rows of an epoch that is over; true when none are left. */
  collect(garbage: Holder): Promise<boolean>;
  /** Changes after a position, in order, waiting up to `waitMs` for the first. Only one read at a time. */
  read(after: FeedPosition, waitMs: number): Promise<readonly FeedEntry[]>;
  /** Makes the read under way reject: what it waits for may never come. */
  endRead(): void;
  close(): void;
}

export class CoordinatorError extends Error {
  override readonly name = 'CoordinatorError';
  /** `away`: try again later. `unusable`: an operator must act; the message says how. */
  readonly kind: 'away' | 'unusable';

  constructor(kind: 'away' | 'unusable', message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}
