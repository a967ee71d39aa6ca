import type Database from 'libsql';
import type { Clock } from '../base/clock.ts';
import { ChangeWaiter } from './change-waiter.ts';
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
import {
  failed,
  numberIn,
  openSqliteFile,
  textIn,
  type SqliteFile,
  type SqliteSchema,
} from './sqlite-file.ts';

const SCHEMA: SqliteSchema = {
  name: 'halfway',
  /** "Hfwy" */
  applicationId: 0x48_66_77_79,
  steps: [
    `CREATE TABLE records (
       key TEXT PRIMARY KEY,
       is_hybrid_connection INTEGER NOT NULL,
       version INTEGER NOT NULL,
       text TEXT NOT NULL
     ) WITHOUT ROWID;
     CREATE INDEX hybrid_connections ON records (is_hybrid_connection);
     CREATE TABLE changes (
       number INTEGER PRIMARY KEY,
       key TEXT NOT NULL,
       text TEXT
     );
     CREATE TABLE feed (incarnation TEXT NOT NULL, number INTEGER NOT NULL);
     INSERT INTO feed VALUES (lower(hex(randomblob(8))), 0);`,
  ],
};

/** Records in a file of one node. Its calls block for the time of a disk write, which is under a millisecond. */
export class SqliteStore implements RelayStore {
  readonly shown: string;
  readonly isDurable = true;
  readonly isShared = false;
  readonly #file: SqliteFile;
  readonly #sql: ReturnType<typeof statements>;
  readonly #waiter: ChangeWaiter;
  #isClosed = false;

  private constructor(file: SqliteFile, clock: Clock) {
    this.#file = file;
    this.shown = file.path;
    this.#sql = statements(file.database);
    this.#waiter = new ChangeWaiter(clock);
  }

  /** Throws `StoreError` as `openSqliteFile` does. */
  static open(folder: string, clock: Clock): SqliteStore {
    return new SqliteStore(openSqliteFile(folder, SCHEMA), clock);
  }

  async snapshot(): Promise<Snapshot> {
    return this.#step('read', () => {
      const rows = this.#sql.allRecords.all();
      const records = rows.map(storedIn);
      return {
        position: this.#position(),
        records: records.filter(record => record !== undefined),
        unreadable: rows
          .filter((_, index) => records[index] === undefined)
          .map(row => textIn(row, 'key') ?? ''),
      };
    });
  }

  async changesAfter(
    position: Position,
    waitMs: number,
  ): Promise<readonly Change[] | 'position-lost'> {
    const now = await this.#step('read', () => this.#position());
    if (position.incarnation !== now.incarnation || position.number > now.number) {
      return 'position-lost';
    }
    if (position.number === now.number) await this.#waiter.wait(waitMs);
    return this.#step('read', () => {
      const rows = this.#isClosed ? [] : this.#sql.changes.all(position.number, CHANGES_AT_A_TIME);
      const changes = rows.map(row => changeIn(row, position.incarnation));
      const next = changes[0]?.position.number ?? position.number + 1;
      return next === position.number + 1 ? changes : 'position-lost';
    });
  }

  async put(record: RelayRecord, guard: PutGuard): Promise<WriteOutcome> {
    const key = keyOf(record);
    return this.#transaction(() => {
      const version = this.#version(key);
      if (version !== guard.expectedVersion) return { type: 'conflict', version };
      const isNew = version === 0 && key.hybridConnection !== undefined;
      if (isNew && this.#hybridConnections() >= guard.hybridConnectionsMax) return { type: 'full' };
      return { type: 'written', position: this.#write(key, formatRecord(record)) };
    });
  }

  async delete(key: RecordKey, expectedVersion: number): Promise<WriteOutcome> {
    return this.#transaction(() => {
      const version = this.#version(key);
      if (version !== expectedVersion || version === 0) return { type: 'conflict', version };
      return { type: 'written', position: this.#write(key, null) };
    });
  }

  async restore(): Promise<boolean> {
    return Promise.resolve(false);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiter.close();
    this.#file.close();
  }

  #position(): Position {
    const row = this.#sql.feed.get();
    return {
      incarnation: textIn(row, 'incarnation') ?? '',
      number: numberIn(row, 'number'),
      tag: '',
    };
  }

  #version(key: RecordKey): number {
    return numberIn(this.#sql.version.get(formatKey(key)), 'version');
  }

  #hybridConnections(): number {
    return numberIn(this.#sql.count.get(), 'hybrid_connections');
  }

  #write(key: RecordKey, text: string | null): Position {
    const position = this.#position();
    const number = position.number + 1;
    const name = formatKey(key);
    if (text === null) this.#sql.remove.run(name);
    else this.#sql.put.run(name, key.hybridConnection === undefined ? 0 : 1, number, text);
    this.#sql.log.run(number, name, text);
    this.#sql.trim.run(number - FEED_CHANGES_MAX);
    this.#sql.advance.run(number);
    return { ...position, number };
  }

  async #transaction(run: () => WriteOutcome): Promise<WriteOutcome> {
    const outcome = await this.#step('write', () =>
      this.#file.database.transaction(run).immediate(),
    );
    if (outcome.type === 'written') this.#waiter.changed();
    return outcome;
  }

  async #step<Result>(what: 'read' | 'write', run: () => Result): Promise<Result> {
    try {
      return await Promise.resolve(run());
    } catch (error) {
      throw failed(`${what} ${this.shown}`, error);
    }
  }
}

function statements(database: Database.Database) {
  return {
    allRecords: database.prepare('SELECT key, version, text FROM records ORDER BY key'),
    version: database.prepare('SELECT version FROM records WHERE key = ?'),
    count: database.prepare(
      'SELECT count(*) AS hybrid_connections FROM records WHERE is_hybrid_connection = 1',
    ),
    put: database.prepare(
      'INSERT INTO records (key, is_hybrid_connection, version, text) VALUES (?, ?, ?, ?) ' +
        'ON CONFLICT (key) DO UPDATE SET version = excluded.version, text = excluded.text',
    ),
    remove: database.prepare('DELETE FROM records WHERE key = ?'),
    changes: database.prepare(
      'SELECT number, key, text FROM changes WHERE number > ? ORDER BY number LIMIT ?',
    ),
    log: database.prepare('INSERT INTO changes (number, key, text) VALUES (?, ?, ?)'),
    trim: database.prepare('DELETE FROM changes WHERE number <= ?'),
    feed: database.prepare('SELECT incarnation, number FROM feed'),
    advance: database.prepare('UPDATE feed SET number = ?'),
  };
}

function storedIn(row: unknown): StoredRecord | undefined {
  const record = parseRecord(textIn(row, 'text') ?? '');
  return record === undefined ? undefined : { version: numberIn(row, 'version'), record };
}

function changeIn(row: unknown, incarnation: string): Change {
  const number = numberIn(row, 'number');
  return {
    position: { incarnation, number, tag: '' },
    key: parseKey(textIn(row, 'key') ?? ''),
    stored: readChange(textIn(row, 'text') ?? '', number),
  };
}
