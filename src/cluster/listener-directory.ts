// The directory as the rest of the relay sees it: who is alive, and who listens where. Lookups are
// synchronous and answered from memory; what is behind it (Redis, or a coordinator in this process)
// shows only in how long a claim takes.

/** Which mesh protocol versions a node speaks: from `min` to `max`, both included. */
export interface MeshVersions {
  readonly min: number;
  readonly max: number;
}

export type NodeState = 'active' | 'draining';

export interface NodeRecord {
  readonly node: string;
  /**
   * One life of the node's lease: `{32 hex digits}.{n}`, random for each start of the process, n
   * counting the leases it took. What was said under another epoch is void.
   */
  readonly epoch: string;
  /** `host:port` at which other nodes reach its mesh port. */
  readonly meshAddress: string;
  readonly versions: MeshVersions;
  readonly state: NodeState;
}

/** A listener to be registered; `key` is unique for each control channel, everywhere and forever. */
export interface ListenerClaim {
  readonly key: string;
  readonly namespace: string;
  /** The entity's key: lower case. */
  readonly hybridConnection: string;
  /** The listener's `sb-hc-id`, or what stands for it; may repeat. */
  readonly listenerId: string;
  /** What rendezvous addresses for this listener begin with: `ws://host:port` or `wss://host:port`. */
  readonly origin: string;
}

/** A listener somewhere in the cluster. */
export interface ListenerRow extends ListenerClaim {
  readonly node: string;
  readonly epoch: string;
}

export type ClaimResult =
  /** Registered; `provisional` while the coordinator is away: counted by memory, written when it returns. */
  | { readonly type: 'claimed'; readonly provisional: boolean }
  /** The hybrid connection has all the listeners it may have. */
  | { readonly type: 'quota-reached' }
  /** This node holds as many listeners as it can. */
  | { readonly type: 'node-full' };

/** What keeps a directory from being whole; several at once are possible. */
export const DEGRADED_REASONS = [
  /** The coordinator cannot be reached: memory answers, claims are provisional. */
  'coordinator-away',
  /** Our lease lapsed, or was taken away; we are taking a new one and writing our rows again. */
  'lease-lost',
  /** Another live process uses our node id: our listeners are invisible to others. */
  'node-id-taken',
  /** Changes were missed; the whole is being read again. */
  'catching-up',
  /** Something else lies under our keys, or the server refuses us: see the warnings. */
  'coordinator-unusable',
] as const;
export type DegradedReason = (typeof DEGRADED_REASONS)[number];

export type JoinResult =
  | { readonly type: 'joined' }
  /** The coordinator is away; the directory works alone and joins as soon as it can. */
  | { readonly type: 'alone'; readonly message: string }
  /** Cannot work: another node has this id, or the coordinator is unusable. The message says what to do. */
  | { readonly type: 'refused'; readonly message: string };

export type DirectoryEvent =
  | { readonly type: 'listener-added'; readonly row: ListenerRow }
  | {
      readonly type: 'listener-removed';
      readonly row: ListenerRow;
      readonly why: 'released' | 'node-gone';
    }
  | { readonly type: 'node-joined'; readonly node: NodeRecord }
  | { readonly type: 'node-changed'; readonly node: NodeRecord }
  | { readonly type: 'node-gone'; readonly node: NodeRecord; readonly why: GoneReason }
  /** Our own lease was lost; `node-joined` is not repeated for ourselves. */
  | { readonly type: 'lease-lost'; readonly epoch: string }
  | { readonly type: 'lease-taken'; readonly epoch: string }
  | { readonly type: 'degraded'; readonly reasons: readonly DegradedReason[] }
  | { readonly type: 'healthy' }
  | { readonly type: 'warning'; readonly message: string };

/** Why a node is gone: its lease ran out, it left, came back under a new epoch, was found dead, or was missed in the feed. */
export type GoneReason = 'expired' | 'left' | 'replaced' | 'expelled' | 'missing';

/** What a node tells another of its listeners while the coordinator cannot; see mesh-messages.ts. */
export interface Announcement {
  /** Whose listeners these are. */
  readonly node: string;
  readonly epoch: string;
  /** The coordinator is away for that node, so that it must be told of others' listeners as well. */
  readonly isAway: boolean;
  /** [key, row as text], as the coordinator would keep it. */
  readonly rows: readonly (readonly [string, string])[];
  readonly released: readonly string[];
}

/** Puts an announcement on its way to another node. False: not sent, and `drained` is called when it may be. */
export type SendAnnouncement = (to: string, announcement: Announcement) => boolean;

/** Why something that a node announced is not believed. */
export const ANNOUNCEMENT_FAULTS = ['forged', 'unreadable', 'too-many'] as const;
export type AnnouncementFault = (typeof ANNOUNCEMENT_FAULTS)[number];

/**
 * What nodes tell each other, past the coordinator, of listeners that it cannot tell of. Without links
 * nothing is told, and each node knows its own.
 */
export interface Announcements {
  sendThrough(send: SendAnnouncement): void;
  /** Announcements to this node are understood, and arrive in order until `linkDown`. */
  linkUp(node: string): void;
  linkDown(node: string): void;
  drained(node: string): void;
  /** `from` is proven; whatever else is in it is not. */
  heard(from: string, announcement: Announcement): void;
  /** Whether a linked node has said that the coordinator is away for it. */
  isAway(node: string): boolean;
}

/** `unknown`: the coordinator is or was away, so nothing was decided yet. */
export type SuspicionResult = 'alive' | 'gone' | 'unknown';

export interface ListenerDirectory {
  /** Takes the lease and reads the whole; call once, first. */
  join(): Promise<JoinResult>;
  /** Registers a listener of this node. Throws when the key is already registered here. */
  claim(claim: ListenerClaim, limits: { readonly listenersMax: number }): Promise<ClaimResult>;
  /** Forgets a listener of this node. Safe to call twice, and while its claim is under way. */
  release(key: string): Promise<void>;
  readonly announcements: Announcements;
  /** Everybody's listeners of one hybrid connection, ours included. The array never changes. */
  listenersOf(namespace: string, hybridConnection: string): readonly ListenerRow[];
  /** Every live node, ourselves included. */
  nodes(): readonly NodeRecord[];
  node(id: string): NodeRecord | undefined;
  self(): NodeRecord;
  setState(state: NodeState): Promise<void>;
  /**
   * A hint that a node may be dead: a mesh link to it broke. Asks it, through the feed, to renew its
   * lease, and takes the lease away when it does not within `suspicionGraceMs`. What cannot be decided now
   * is looked at again when it can, unless a link to the node comes up before.
   */
  suspect(node: string): Promise<SuspicionResult>;
  /** Empty when all is well. */
  degradedReasons(): readonly DegradedReason[];
  /** What an operator should put right; the latest of each kind. */
  warnings(): readonly string[];
  stats(): DirectoryStats;
  /** Observers are called in order and must not throw. Returns what ends it. */
  observe(observer: (event: DirectoryEvent) => void): () => void;
  /** Gives up the lease, so that our rows vanish at once, and stops. Safe to call twice. */
  leave(): Promise<void>;
}

/** Plain numbers for metrics; see metrics.ts for what each means. */
export interface DirectoryStats {
  readonly isCoordinatorUp: boolean;
  /** Since our lease was last renewed; undefined without a lease. */
  readonly leaseAgeMs: number | undefined;
  readonly nodes: number;
  readonly ownRows: number;
  readonly remoteRows: number;
  /** Listeners of ours that the coordinator does not have yet. */
  readonly unwrittenRows: number;
  /** Changes in the feed that we have not applied, as of the last renewal. */
  readonly feedLag: number;
  readonly changesApplied: number;
  readonly commands: number;
  readonly commandFailures: number;
  readonly leasesLost: number;
  /** Times the whole was read again, by why. */
  readonly reconciliations: Readonly<Record<ReconciliationReason, number>>;
  /** Rows of ours that were written again or taken out because the coordinator had them wrong. */
  readonly rowsRepaired: number;
  /** Rows and records that could not be read or found no place. */
  readonly rowsIgnored: number;
  readonly nodesRemoved: number;
  /** Listeners of other nodes that are known by announcement alone. */
  readonly announcedRows: number;
  /** Of what was announced, what was not believed or found no place. */
  readonly announcementsRefused: Readonly<Record<AnnouncementFault, number>>;
  /** Listeners of ours that others were not told of for want of room. */
  readonly announcementsUntold: number;
}

export const RECONCILIATION_REASONS = [
  'joined',
  'gap',
  'diverged',
  'stalled',
  'rolled-back',
] as const;
export type ReconciliationReason = (typeof RECONCILIATION_REASONS)[number];
