import type { RecordKey, RelayRecord } from './records.ts';

/**
 * A point of the change feed. Numbers go up by one with each change; `incarnation` is another one when
 * the store began anew, and `tag` another one when history went on differently after a loss.
 */
export interface Position {
  readonly incarnation: string;
  /** Of the last change that is included; 0 before the first. */
  readonly number: number;
  readonly tag: string;
}

/** A record as it is stored; `version` is the number of the change that wrote it, from 1. */
export interface StoredRecord {
  readonly version: number;
  readonly record: RelayRecord;
}

export interface Change {
  readonly position: Position;
  readonly key: RecordKey;
  /** `unreadable`: foreign, or written by a newer version. */
  readonly stored: StoredRecord | 'deleted' | 'unreadable';
}

export interface Snapshot {
  /** Undefined: nothing was ever written here, or all was lost. */
  readonly position: Position | undefined;
  readonly records: readonly StoredRecord[];
  /** Keys of records that cannot be read: foreign, or written by a newer version. */
  readonly unreadable: readonly string[];
}

export type WriteOutcome =
  | { readonly type: 'written'; readonly position: Position }
  /** The record has another version than expected; 0: there is none. */
  | { readonly type: 'conflict'; readonly version: number }
  /** As many hybrid connections as there may be; only for one that would be new. */
  | { readonly type: 'full' };

export interface PutGuard {
  /** 0: there must be none yet. */
  readonly expectedVersion: number;
  /** How many hybrid connections the store may hold then. */
  readonly hybridConnectionsMax: number;
}

/**
 * Durable records of what was made at run time, with a feed by which every node learns of every change
 * in order. What `put` and `delete` have answered outlives the process (but not in memory).
 * All methods reject with `StoreError` when the store cannot be used.
 */
export interface RelayStore {
  /** Where records are kept, for people; without secrets. */
  readonly shown: string;
  /** Whether what is written outlives this process. */
  readonly isDurable: boolean;
  /** Whether other processes write here, too. */
  readonly isShared: boolean;
  /** All records at one point of the feed. */
  snapshot(): Promise<Snapshot>;
  /**
   * Changes behind a position, oldest first, perhaps not all; waits for one up to `waitMs` (not infinite where others write), then []. Only one call at
   * a time. `position-lost`: the feed does not reach back so far, or has another history: take a snapshot.
   */
  changesAfter(position: Position, waitMs: number): Promise<readonly Change[] | 'position-lost'>;
  /** Compare and set. */
  put(record: RelayRecord, guard: PutGuard): Promise<WriteOutcome>;
  /** Compare and delete. */
  delete(key: RecordKey, expectedVersion: number): Promise<WriteOutcome>;
  /** Writes these records, if the store has no position; false when it has. For a Redis that came back empty. */
  restore(records: readonly RelayRecord[]): Promise<boolean>;
  /** Ends a wait of `changesAfter` with []. Safe to call twice. */
  close(): void;
}

/**
 * The store cannot be used at the moment, or never. Whether a write took effect is unknown. The message says where and
 * why, and what to do.
 */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** Changes that a feed keeps; who is further behind takes a snapshot. */
export const FEED_CHANGES_MAX = 1_000;
/** Changes that one call of `changesAfter` gives at most. */
export const CHANGES_AT_A_TIME = 100;
