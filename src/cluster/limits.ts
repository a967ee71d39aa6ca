/** Durations of membership. The same on all nodes, or the slower are taken for dead. */
export interface DirectoryTimes {
  /** How long a lease lives unless it is renewed; by the coordinator's clock. */
  readonly leaseMs: number;
  readonly renewMs: number;
  /** How long a suspected node has to show that it lives. */
  readonly suspicionGraceMs: number;
  /** How long one read of the feed waits for changes. */
  readonly feedWaitMs: number;
  /** Pause after a read of the feed that failed. */
  readonly feedRetryMs: number;
  /** How long `join` waits for the coordinator before it goes on alone. */
  readonly joinTimeoutMs: number;
  /** How long what nodes announced counts when the coordinator has returned, for them and for us. */
  readonly announcementSettleMs: number;
}

export const DIRECTORY_TIMES: DirectoryTimes = {
  leaseMs: 15_000,
  renewMs: 5_000,
  suspicionGraceMs: 1_500,
  feedWaitMs: 10_000,
  feedRetryMs: 250,
  joinTimeoutMs: 5_000,
  announcementSettleMs: 10_000,
};

/** Nodes in one cluster; further ones are not seen, with a warning. */
export const NODES_MAX = 256;
/** Listeners of other nodes kept in memory; further ones are not seen, counted and warned of. */
export const REMOTE_ROWS_MAX = 1_000_000;
/** Listeners of one node; further claims are refused with `node-full`. */
export const OWN_ROWS_MAX = 200_000;
/** Claims under way at the coordinator; further ones wait for their turn. */
export const CLAIMS_IN_FLIGHT_MAX = 128;
/** Claims that wait for their turn; further ones are granted by memory, as if the coordinator were away. */
export const CLAIMS_WAITING_MAX = 10_000;
/** Releases that wait for the coordinator's return; beyond it all of our rows are compared instead. */
export const RELEASES_WAITING_MAX = 10_000;
/** Rows in one write, so that no script holds Redis up. */
export const ROWS_PER_WRITE_MAX = 100;
/** Rows asked for in one page of a snapshot. */
export const ROWS_PER_PAGE = 1_000;
/** Changes kept in the feed: a node that missed more reads the whole. At most 100 rows each. */
export const FEED_CHANGES_MAX = 4_096;
/** Changes taken in one read of the feed. */
export const FEED_READ_MAX = 256;
/**
 * Listeners that one node announces to another while the coordinator is away, those that went included;
 * further ones are known to their own node only until it returns, counted and warned of.
 */
export const ANNOUNCED_ROWS_MAX = 20_000;
/** Listeners in one announcement; a longer one is refused. */
export const ANNOUNCED_PER_MESSAGE_MAX = 500;
/** Characters of keys and rows at which an announcement ends, unless it has one row only: no message is too long then. */
export const ANNOUNCED_CHARS_PER_MESSAGE_MAX = 49_152;
/** Nodes under suspicion at once; a further hint is answered `unknown`. */
export const SUSPICIONS_MAX = 64;
/** Different warnings kept for the operator. */
export const WARNINGS_MAX = 16;
/** Characters of one row or record as text; longer ones are refused at the claim and ignored when read. */
export const ROW_CHARS_MAX = 4_096;
