import { randomBytes } from 'node:crypto';
import type { RedisClient } from '../redis/client.ts';
import { storeKeys, type StoreKeys } from '../redis/keys.ts';
import { scriptLoader } from '../redis/scripts.ts';
import { itemsOf, pairsOf, textsOf } from './redis-answers.ts';
import { asStoreError } from './redis-faults.ts';
import {
  formatKey,
  formatRecord,
  keyOf,
  parseKey,
  parseRecord,
  readChange,
  type RecordKey,
  type RelayRecord,
} from './records.ts';
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
import { storeScripts } from './store-scripts.ts';

/** What a blocking read may take longer than it waits. */
const READ_GRACE_MS = 2_000;

export interface RedisStoreOptions {
  /** For everything but waiting. The caller opens and closes both. */
  readonly commands: RedisClient;
  /** For blocking reads of the feed, which hold their connection: used by nobody else. */
  readonly feed: RedisClient;
  readonly keyPrefix: string;
}

/** Records that all nodes of a cluster share: one Lua script for each step, one stream as feed. */
export class RedisStore implements RelayStore {
  readonly shown: string;
  readonly isDurable = true;
  readonly isShared = true;
  readonly #feed: RedisClient;
  readonly #keys: StoreKeys;
  readonly #scripts: ReturnType<typeof storeScripts>;
  #isClosed = false;

  constructor(options: RedisStoreOptions) {
    this.#feed = options.feed;
    this.shown = `Redis at ${options.commands.shown}`;
    this.#keys = storeKeys(options.keyPrefix);
    this.#scripts = storeScripts(scriptLoader(options.commands));
  }

  async snapshot(): Promise<Snapshot> {
    const { meta, namespaces, hybridConnections } = this.#keys;
    return this.#step(async () => {
      const answer = await this.#scripts.readRecords([meta, namespaces, hybridConnections], []);
      const [incarnation = '', seq = '0', tag = ''] = textsOf(itemsOf(answer).slice(0, 3));
      const hashes = itemsOf(answer).slice(3);
      const pairs = hashes.flatMap(hash => pairsOf(textsOf(hash)));
      const stored = pairs.map(([, value]) => storedIn(value));
      return {
        position: incarnation === '' ? undefined : { incarnation, number: Number(seq), tag },
        records: stored.filter(record => record !== undefined),
        unreadable: pairs.filter((_, i) => stored[i] === undefined).map(([key]) => key),
      };
    });
  }

  async changesAfter(
    position: Position,
    waitMs: number,
  ): Promise<readonly Change[] | 'position-lost'> {
    const changes = await this.#changes(position);
    if (changes === 'position-lost' || changes.length > 0) return changes;
    const { incarnation, number } = position;
    const args = ['COUNT', 1, 'BLOCK', waitMs, 'STREAMS', this.#keys.feed];
    // Only a bell: what there is, and whether it is ours, is looked at in one step.
    await this.#step(async () => {
      try {
        await this.#feed.call(
          'XREAD',
          [...args, `${incarnation}-${number}`],
          waitMs + READ_GRACE_MS,
        );
      } catch (error) {
        if (!this.#isClosed) throw error;
      }
    });
    return this.#changes(position);
  }

  async put(record: RelayRecord, guard: PutGuard): Promise<WriteOutcome> {
    const key = keyOf(record);
    const recordsMax = key.hybridConnection === undefined ? 0 : guard.hybridConnectionsMax;
    // 0 would mean that any number is allowed.
    if (key.hybridConnection !== undefined && recordsMax < 1 && guard.expectedVersion === 0) {
      return { type: 'full' };
    }
    const tag = newTag();
    return this.#step(async () =>
      outcomeIn(
        await this.#scripts.putRecord(this.#keysFor(key), [
          formatKey(key),
          guard.expectedVersion,
          formatRecord(record),
          recordsMax,
          tag,
          FEED_CHANGES_MAX,
        ]),
        tag,
      ),
    );
  }

  async delete(key: RecordKey, expectedVersion: number): Promise<WriteOutcome> {
    const tag = newTag();
    return this.#step(async () =>
      outcomeIn(
        await this.#scripts.deleteRecord(this.#keysFor(key), [
          formatKey(key),
          expectedVersion,
          tag,
          FEED_CHANGES_MAX,
        ]),
        tag,
      ),
    );
  }

  async restore(records: readonly RelayRecord[]): Promise<boolean> {
    const { meta, namespaces, hybridConnections, feed } = this.#keys;
    const levels = records.filter(record => record.hybridConnection === undefined);
    const entities = records.filter(record => record.hybridConnection !== undefined);
    const pairs = [...levels, ...entities].flatMap(record => [
      formatKey(keyOf(record)),
      formatRecord(record),
    ]);
    const keys = [meta, namespaces, hybridConnections, feed];
    return this.#step(
      async () =>
        (await this.#scripts.restoreRecords(keys, [newTag(), levels.length, ...pairs])) === 1,
    );
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Nothing else ends a blocking read.
    this.#feed.reconnect();
  }

  async #changes(position: Position): Promise<readonly Change[] | 'position-lost'> {
    if (this.#isClosed) return [];
    const { incarnation, number, tag } = position;
    return this.#step(async () => {
      const [verdict, entries] = itemsOf(
        await this.#scripts.readChanges(
          [this.#keys.meta, this.#keys.feed],
          [incarnation, number, tag, CHANGES_AT_A_TIME],
        ),
      );
      return verdict === 'changes' ? itemsOf(entries).map(changeIn) : 'position-lost';
    });
  }

  #keysFor(key: RecordKey): string[] {
    const { meta, namespaces, hybridConnections, feed } = this.#keys;
    return [meta, key.hybridConnection === undefined ? namespaces : hybridConnections, feed];
  }

  async #step<Result>(take: () => Promise<Result>): Promise<Result> {
    try {
      return await take();
    } catch (error) {
      throw asStoreError(error, { shown: this.shown, key: this.#keys.meta });
    }
  }
}

/** Tells two histories with the same numbers apart, as after a failover that lost the last writes. */
function newTag(): string {
  return randomBytes(8).toString('hex');
}

function outcomeIn(answer: unknown, tag: string): WriteOutcome {
  const [verdict, one = '', other = ''] = textsOf(answer);
  if (verdict === 'written') {
    return { type: 'written', position: { incarnation: one, number: Number(other), tag } };
  }
  return verdict === 'full' ? { type: 'full' } : { type: 'conflict', version: Number(one) };
}

/** `version text` of a record. */
function storedIn(value: string): StoredRecord | undefined {
  const space = value.indexOf(' ');
  const version = Number(value.slice(0, Math.max(0, space)));
  const record = parseRecord(value.slice(space + 1));
  return record === undefined || !(version > 0) ? undefined : { version, record };
}

/** One entry of the stream: `[id, [field, value, …]]`. */
function changeIn(entry: unknown): Change {
  const [id, list] = itemsOf(entry);
  const [incarnation = '', number = '0'] = String(id).split('-');
  const fields = new Map(pairsOf(textsOf(list)));
  const position = { incarnation, number: Number(number), tag: fields.get('tag') ?? '' };
  return {
    position,
    key: parseKey(fields.get('key') ?? ''),
    stored: readChange(fields.get('text') ?? '', position.number),
  };
}
