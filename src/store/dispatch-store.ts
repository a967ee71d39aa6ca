// The port behind which all records of job dispatch live: memory, SQLite and Redis, one conformance
// suite. It knows no domain word: documents with versions, indexes sorted by score, logs of entries, and
// one atomic step that reads nothing but compares all it is told to. Names and texts outside the limits
// below are a bug of the caller: the method rejects with `RangeError`, and nothing was done.

/**
 * Everything of one environment is one *partition*: a step touches one only, so that on a Redis Cluster
 * it stays in one slot. What is beside all environments (users, tokens) has a partition of its own.
 */
export type Partition = string;

/** A document's address: kind (`run`, `machine`) and id. */
export interface DocumentKey {
  readonly kind: string;
  readonly id: string;
}

export interface Document {
  readonly key: DocumentKey;
  /** 1 when it was made; one more with each write. One that was removed and is made again begins with 1. */
  readonly version: number;
  /** As it was put: JSON, or other well-formed text without U+0000. */
  readonly text: string;
}

/** An entry of an index: members are unique, sorted by score, then by their text. */
export interface IndexEntry {
  /** Printable ASCII. */
  readonly member: string;
  /** A finite number; whole ones up to 2^53 are exact. */
  readonly score: number;
}

export interface LogEntry {
  /** From 1, without gaps, in the order of writing; old ones are cut off. A log that was cleared begins anew. */
  readonly number: number;
  readonly text: string;
}

/** What must hold for a step to be taken. All of it is compared in the instant of the step. */
export type Condition =
  /** The document has this version; 0: there is none. */
  | { readonly type: 'version'; readonly key: DocumentKey; readonly version: number }
  /** The index has fewer members than this. One that `adds` names and that is there already counts too. */
  | { readonly type: 'index-below'; readonly index: string; readonly count: number }
  | {
      readonly type: 'member';
      readonly index: string;
      readonly member: string;
      readonly isIn: boolean;
    };

/**
 * One atomic step: all conditions hold and all is done, durably, or nothing is. A document is put or removed
 * once in a step. Clears come first, then documents, drops, adds and appends, so that a step may replace an
 * index or a log.
 */
export interface Step {
  readonly conditions: readonly Condition[];
  readonly puts?: readonly { readonly key: DocumentKey; readonly text: string }[];
  readonly removes?: readonly DocumentKey[];
  /** Adds a member or moves it to another score. */
  readonly adds?: readonly ({ readonly index: string } & IndexEntry)[];
  readonly drops?: readonly { readonly index: string; readonly member: string }[];
  /** Appends to a log and keeps at most its last `keep` entries (from 1). */
  readonly appends?: readonly {
    readonly log: string;
    readonly text: string;
    readonly keep: number;
  }[];
  /** Removes whole logs and indexes. */
  readonly clears?: readonly { readonly log?: string; readonly index?: string }[];
}

export type StepOutcome =
  | { readonly type: 'done' }
  /** The first condition that does not hold. */
  | { readonly type: 'refused'; readonly condition: number };

export interface RangeQuery {
  /** Lowest and highest score, both included; default: all. */
  readonly from?: number;
  readonly to?: number;
  /** Goes on behind this entry of an earlier answer, in the same direction. */
  readonly after?: IndexEntry;
  readonly isDescending?: boolean;
  readonly limit: number;
}

/**
 * All methods reject with `StoreError` when the store cannot be used; whether a step was taken is unknown
 * then. Where it is shared, a step of another process is seen by the next read.
 */
export interface DispatchStore {
  /** Where records are kept, for people; without secrets. */
  readonly shown: string;
  readonly isDurable: boolean;
  readonly isShared: boolean;
  /**
   * '' when whatever a step has answered is on a disk; otherwise what may be lost, when, and what to do, for people. May
   * change while the store is in use, as when another server takes over.
   */
  readonly durability: string;
  get(partition: Partition, key: DocumentKey): Promise<Document | undefined>;
  /** In the order asked; undefined for those that are not there. At most `GET_MANY_MAX` keys. */
  getMany(
    partition: Partition,
    keys: readonly DocumentKey[],
  ): Promise<readonly (Document | undefined)[]>;
  range(partition: Partition, index: string, query: RangeQuery): Promise<readonly IndexEntry[]>;
  count(partition: Partition, index: string): Promise<number>;
  score(partition: Partition, index: string, member: string): Promise<number | undefined>;
  /** Entries behind number `after`, oldest first. `first`: the oldest number that is kept (0: the log is empty). */
  log(
    partition: Partition,
    log: string,
    query: { readonly after: number; readonly limit: number },
  ): Promise<{ readonly first: number; readonly entries: readonly LogEntry[] }>;
  step(partition: Partition, step: Step): Promise<StepOutcome>;
  /**
   * Tells of changes that this or another process made: the partition and the topics that were touched
   * (`kind` of documents put or removed, names of indexes and logs that were written to or cleared). A hint
   * to look again: several changes may be told as one, and one may be told twice. `onGap`: changes may have
   * been missed, as when the store was away; look at all again. It is called once when a shared store's
   * changes begin to arrive, and never where this process alone writes. Returns what ends it.
   */
  watch(onChange: OnChange, onGap?: () => void): () => void;
  /** Safe to call twice. All methods reject with `StoreError` afterwards. */
  close(): Promise<void>;
}

export type OnChange = (partition: Partition, topics: readonly string[]) => void;

/** Of partitions, kinds, ids, indexes and logs. */
export const NAME_FORM = /^[A-Za-z0-9._:~-]{1,256}$/;
export const MEMBER_FORM = /^[ -~]{1,512}$/;
export const GET_MANY_MAX = 500;
/** Entries of an index or a log that one call gives at most. */
export const RANGE_MAX = 1_000;
/** Entries that a log keeps at most. */
export const LOG_KEEP_MAX = 100_000;
/** Writes and conditions of one step, all counted. */
export const STEP_PARTS_MAX = 200;
/** Longest document or log entry, in characters. */
export const TEXT_CHARS_MAX = 4 * 1024 * 1024;
/** All texts of one step together, in characters. */
export const STEP_CHARS_MAX = 16 * 1024 * 1024;
