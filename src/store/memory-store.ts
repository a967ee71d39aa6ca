import type { Clock } from '../base/clock.ts';
import { ChangeWaiter } from './change-waiter.ts';
import { formatKey, keyOf, type RecordKey, type RelayRecord } from './records.ts';
import {
  CHANGES_AT_A_TIME,
  FEED_CHANGES_MAX,
  type Change,
  type Position,
  type PutGuard,
  type RelayStore,
  type Snapshot,
  type StoredRecord,
  type WriteOutcome,
} from './relay-store.ts';

const START: Position = { incarnation: 'memory', number: 0, tag: '' };

/** Records that end with the process: for `halfway dev`, and for tests. */
export class MemoryStore implements RelayStore {
  readonly shown = 'memory';
  readonly isDurable = false;
  readonly isShared = false;
  readonly #waiter: ChangeWaiter;
  readonly #records = new Map<string, StoredRecord>();
  #feed: Change[] = [];
  #position = START;

  constructor(clock: Clock) {
    this.#waiter = new ChangeWaiter(clock);
  }

  async snapshot(): Promise<Snapshot> {
    return Promise.resolve({
      position: this.#position,
      records: [...this.#records.values()],
      unreadable: [],
    });
  }

  async changesAfter(
    position: Position,
    waitMs: number,
  ): Promise<readonly Change[] | 'position-lost'> {
    if (!this.#hasKept(position)) return 'position-lost';
    if (position.number === this.#position.number) await this.#waiter.wait(waitMs);
    return this.#feed
      .filter(change => change.position.number > position.number)
      .slice(0, CHANGES_AT_A_TIME);
  }

  async put(record: RelayRecord, guard: PutGuard): Promise<WriteOutcome> {
    const key = keyOf(record);
    const old = this.#records.get(formatKey(key));
    const version = old?.version ?? 0;
    if (version !== guard.expectedVersion) return { type: 'conflict', version };
    const isNew = old === undefined && key.hybridConnection !== undefined;
    if (isNew && this.#hybridConnections() >= guard.hybridConnectionsMax) return { type: 'full' };
    return Promise.resolve({ type: 'written', position: this.#write(key, record) });
  }

  async delete(key: RecordKey, expectedVersion: number): Promise<WriteOutcome> {
    const version = this.#records.get(formatKey(key))?.version ?? 0;
    if (version !== expectedVersion || version === 0) return { type: 'conflict', version };
    return Promise.resolve({ type: 'written', position: this.#write(key, undefined) });
  }

  async restore(): Promise<boolean> {
    return Promise.resolve(false);
  }

  close(): void {
    this.#waiter.close();
  }

  #write(key: RecordKey, record: RelayRecord | undefined): Position {
    const number = this.#position.number + 1;
    const stored = record === undefined ? undefined : { version: number, record };
    if (stored === undefined) this.#records.delete(formatKey(key));
    else this.#records.set(formatKey(key), stored);
    this.#position = { ...START, number };
    const change = { position: this.#position, key, stored: stored ?? ('deleted' as const) };
    this.#feed = [...this.#feed, change].slice(-FEED_CHANGES_MAX);
    this.#waiter.changed();
    return this.#position;
  }

  #hybridConnections(): number {
    return [...this.#records.values()].filter(({ record }) => record.hybridConnection !== undefined)
      .length;
  }

  #hasKept({ incarnation, number }: Position): boolean {
    if (incarnation !== START.incarnation || number > this.#position.number) return false;
    const oldest = this.#feed[0]?.position.number ?? this.#position.number + 1;
    return number >= oldest - 1;
  }
}
