import type Database from 'libsql';
import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import type { Bounds } from './dispatch-checks.ts';
import { DocumentCache } from './document-cache.ts';
import type { Document, DocumentKey, IndexEntry, LogEntry, Partition } from './dispatch-store.ts';
import {
  LocalDispatchStore,
  type LocalPartition,
  type LocalRecords,
} from './local-dispatch-store.ts';
import {
  failed,
  numberIn,
  openSqliteFile,
  textIn,
  type SqliteFile,
  type SqliteSchema,
} from './sqlite-file.ts';

/**
 * Texts may be long, so their tables are not kept in the order of their keys. How many members an index has stands in
 * a row of its own, because SQLite would walk them all to count them.
 */
const SCHEMA: SqliteSchema = {
  name: 'dispatch',
  /** "HfwD" */
  applicationId: 0x48_66_77_44,
  steps: [
    `CREATE TABLE documents (
       partition TEXT NOT NULL,
       kind TEXT NOT NULL,
       id TEXT NOT NULL,
       version INTEGER NOT NULL,
       text TEXT NOT NULL,
       UNIQUE (partition, kind, id)
     );
     CREATE TABLE members (
       partition TEXT NOT NULL,
       name TEXT NOT NULL,
       member TEXT NOT NULL,
       score REAL NOT NULL,
       PRIMARY KEY (partition, name, member)
     ) WITHOUT ROWID;
     CREATE INDEX members_by_score ON members (partition, name, score, member);
     CREATE TABLE counts (
       partition TEXT NOT NULL,
       name TEXT NOT NULL,
       members INTEGER NOT NULL,
       PRIMARY KEY (partition, name)
     ) WITHOUT ROWID;
     CREATE TABLE entries (
       partition TEXT NOT NULL,
       log TEXT NOT NULL,
       number INTEGER NOT NULL,
       text TEXT NOT NULL,
       UNIQUE (partition, log, number)
     );`,
  ],
};

/**
 * Opens `dispatch.db` in a folder: records of job dispatch of one node. Every step is on the disk before it is
 * answered; steps of one turn, or of some milliseconds while there are many, are one transaction, which blocks for the
 * time of a disk write. What was removed is out of the files within `REMOVED_MS`, what was written over within
 * `REPLACED_MS`. Documents that were read or written of late are in memory, up to `CACHE_BYTES_MAX`. Throws
 * `StoreError` as `openSqliteFile` does.
 */
export function openSqliteDispatchStore(
  folder: string,
  clock: Clock = systemClock,
): LocalDispatchStore {
  return new LocalDispatchStore(new SqliteRecords(openSqliteFile(folder, SCHEMA), clock), clock);
}

/** Of documents in memory: some ten thousand runs with their machines. */
const CACHE_BYTES_MAX = 32 * 1024 * 1024;
const REMOVED_MS = 1_000;
/** Records of runs are written over all the time, and each truncation takes some writes to the disk. */
const REPLACED_MS = 30_000;

class SqliteRecords implements LocalRecords {
  readonly shown: string;
  readonly isDurable = true;
  readonly durability = '';
  readonly #file: SqliteFile;
  readonly #sql: Statements;
  readonly #clock: Clock;
  /** Exact, because nobody else may write to the file. */
  readonly #cache = new DocumentCache(CACHE_BYTES_MAX);
  /** When the log beside the database is emptied of what was; undefined: nothing was. */
  #truncation: { readonly atMs: number; readonly cancel: CancelTimer } | undefined;

  constructor(file: SqliteFile, clock: Clock) {
    this.#file = file;
    this.#clock = clock;
    this.shown = file.path;
    this.#sql = statements(file.database);
  }

  get cachedBytes(): number {
    return this.#cache.bytes;
  }

  partition(name: Partition): LocalPartition {
    return new SqlitePartition(this.#sql, this.#cache, name, ms => this.#truncateWithin(ms));
  }

  read<Result>(run: () => Result): Result {
    return this.#attempt('read', run);
  }

  write<Result>(run: () => Result): Result {
    const transaction = this.#file.database.transaction(run);
    try {
      return this.#attempt('write', () => transaction.immediate());
    } catch (error) {
      // It has what was rolled back; and what of a commit that failed is on the disk, only the disk knows.
      this.#cache.clear();
      throw error;
    }
  }

  close(): void {
    this.#truncation?.cancel();
    this.#cache.clear();
    this.#file.close();
  }

  #truncateWithin(ms: number): void {
    const atMs = this.#clock.nowMs() + ms;
    if (this.#truncation !== undefined && this.#truncation.atMs <= atMs) return;
    this.#truncation?.cancel();
    const cancel = this.#clock.after(ms, () => {
      this.#truncation = undefined;
      try {
        this.#file.truncateLog();
      } catch {
        // A full disk, perhaps: whoever writes next is told so, and tries this again.
        this.#truncateWithin(REPLACED_MS);
      }
    });
    this.#truncation = { atMs, cancel };
  }

  #attempt<Result>(what: 'read' | 'write', run: () => Result): Result {
    try {
      return run();
    } catch (error) {
      throw failed(`${what} ${this.shown}`, error);
    }
  }
}

class SqlitePartition implements LocalPartition {
  readonly #sql: Statements;
  readonly #cache: DocumentCache;
  readonly #partition: Partition;
  /** Something is no longer there, and is to be nowhere after so many milliseconds. */
  readonly #leave: (ms: number) => void;

  constructor(
    sql: Statements,
    cache: DocumentCache,
    partition: Partition,
    leave: (ms: number) => void,
  ) {
    this.#sql = sql;
    this.#cache = cache;
    this.#partition = partition;
    this.#leave = leave;
  }

  get(key: DocumentKey): Document | undefined {
    const cached = this.#cache.get(this.#partition, key);
    if (cached !== undefined) return cached;
    const row = this.#sql.document.get(this.#partition, key.kind, key.id);
    const text = textIn(row, 'text');
    if (text === undefined) return undefined;
    return this.#cache.set(this.#partition, { key, version: numberIn(row, 'version'), text });
  }

  version(key: DocumentKey): number {
    const cached = this.#cache.get(this.#partition, key);
    if (cached !== undefined) return cached.version;
    return numberIn(this.#sql.version.get(this.#partition, key.kind, key.id), 'version');
  }

  put(key: DocumentKey, text: string): void {
    const row: unknown = this.#sql.put.get(this.#partition, key.kind, key.id, text);
    this.#cache.set(this.#partition, { key, version: numberIn(row, 'version'), text });
    this.#leave(REPLACED_MS);
  }

  remove(key: DocumentKey): void {
    this.#cache.delete(this.#partition, key);
    this.#sql.remove.run(this.#partition, key.kind, key.id);
    this.#leave(REMOVED_MS);
  }

  range(
    index: string,
    { low, high }: Bounds,
    { isDescending, limit }: { readonly isDescending: boolean; readonly limit: number },
  ): readonly IndexEntry[] {
    const range = isDescending ? this.#sql.descending : this.#sql.ascending;
    const between = [low.score, low.member, high.score, high.member];
    return range.all(this.#partition, index, ...between, limit).map(row => ({
      member: textIn(row, 'member') ?? '',
      score: numberIn(row, 'score'),
    }));
  }

  count(index: string): number {
    return numberIn(this.#sql.count.get(this.#partition, index), 'members');
  }

  score(index: string, member: string): number | undefined {
    const row: unknown = this.#sql.score.get(this.#partition, index, member);
    return row === undefined ? undefined : numberIn(row, 'score');
  }

  add(index: string, { member, score }: IndexEntry): void {
    const { changes } = this.#sql.insert.run(this.#partition, index, member, score);
    if (changes === 1) this.#sql.countUp.run(this.#partition, index);
    else this.#sql.move.run(score, this.#partition, index, member);
  }

  drop(index: string, member: string): void {
    const { changes } = this.#sql.drop.run(this.#partition, index, member);
    if (changes === 0) return;
    this.#sql.countDown.run(this.#partition, index);
    this.#sql.uncount.run(this.#partition, index);
  }

  clearIndex(index: string): void {
    this.#sql.dropAll.run(this.#partition, index);
    this.#sql.uncountAll.run(this.#partition, index);
  }

  firstOf(log: string): number {
    return numberIn(this.#sql.ends.get(this.#partition, log), 'first');
  }

  entriesOf(
    log: string,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): readonly LogEntry[] {
    return this.#sql.entries.all(this.#partition, log, after, limit).map(row => ({
      number: numberIn(row, 'number'),
      text: textIn(row, 'text') ?? '',
    }));
  }

  append(log: string, text: string, keep: number): void {
    const number = numberIn(this.#sql.ends.get(this.#partition, log), 'last') + 1;
    this.#sql.append.run(this.#partition, log, number, text);
    this.#sql.cut.run(this.#partition, log, number - keep);
  }

  clearLog(log: string): void {
    this.#sql.cut.run(this.#partition, log, Number.MAX_SAFE_INTEGER);
    this.#leave(REMOVED_MS);
  }
}

type Statements = ReturnType<typeof statements>;

function statements(database: Database.Database) {
  const document = 'partition = ? AND kind = ? AND id = ?';
  const index = 'partition = ? AND name = ?';
  const log = 'partition = ?1 AND log = ?2';
  const between = `${index} AND (score, member) > (?, ?) AND (score, member) < (?, ?)`;
  const range = `SELECT member, score FROM members WHERE ${between} ORDER BY`;
  return {
    document: database.prepare(`SELECT version, text FROM documents WHERE ${document}`),
    version: database.prepare(`SELECT version FROM documents WHERE ${document}`),
    put: database.prepare(
      'INSERT INTO documents (partition, kind, id, version, text) VALUES (?, ?, ?, 1, ?) ' +
        'ON CONFLICT DO UPDATE SET version = version + 1, text = excluded.text RETURNING version',
    ),
    remove: database.prepare(`DELETE FROM documents WHERE ${document}`),
    ascending: database.prepare(`${range} score, member LIMIT ?`),
    descending: database.prepare(`${range} score DESC, member DESC LIMIT ?`),
    count: database.prepare(`SELECT members FROM counts WHERE ${index}`),
    score: database.prepare(`SELECT score FROM members WHERE ${index} AND member = ?`),
    insert: database.prepare(
      'INSERT INTO members (partition, name, member, score) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
    ),
    countUp: database.prepare(
      'INSERT INTO counts (partition, name, members) VALUES (?, ?, 1) ' +
        'ON CONFLICT DO UPDATE SET members = members + 1',
    ),
    move: database.prepare(`UPDATE members SET score = ? WHERE ${index} AND member = ?`),
    drop: database.prepare(`DELETE FROM members WHERE ${index} AND member = ?`),
    countDown: database.prepare(`UPDATE counts SET members = members - 1 WHERE ${index}`),
    uncount: database.prepare(`DELETE FROM counts WHERE ${index} AND members = 0`),
    dropAll: database.prepare(`DELETE FROM members WHERE ${index}`),
    uncountAll: database.prepare(`DELETE FROM counts WHERE ${index}`),
    ends: database.prepare(
      `SELECT (SELECT min(number) FROM entries WHERE ${log}) AS first, ` +
        `(SELECT max(number) FROM entries WHERE ${log}) AS last`,
    ),
    entries: database.prepare(
      `SELECT number, text FROM entries WHERE ${log} AND number > ?3 ORDER BY number LIMIT ?4`,
    ),
    append: database.prepare(
      'INSERT INTO entries (partition, log, number, text) VALUES (?, ?, ?, ?)',
    ),
    cut: database.prepare(`DELETE FROM entries WHERE ${log} AND number <= ?3`),
  };
}
