import { accessSync, closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import { StoreError } from './relay-store.ts';

/** What a file of ours is called and holds. */
export interface SqliteSchema {
  /** Without its end: `halfway` for `halfway.db`. */
  readonly name: string;
  /** Marks the file as ours in its header. */
  readonly applicationId: number;
  /** What leads from each schema version to the next, from 0; their number is the version we know. */
  readonly steps: readonly string[];
}

/** A database in a folder that this process holds alone. */
export interface SqliteFile {
  readonly database: Database.Database;
  readonly path: string;
  /**
   * Empties the log beside the database, in which pages stand as they were before what was deleted or written over.
   * Blocks for the time of some disk writes; throws what SQLite does.
   */
  truncateLog(): void;
  close(): void;
}

/**
 * Opens `<name>.db` in a folder, both made if missing and for nobody else's eyes. Every commit is on the disk before
 * it returns, and what is deleted is overwritten. Throws `StoreError`, which says what to do, when the folder cannot be written to, another process holds
 * it, or the file is not ours or of a newer version.
 */
export function openSqliteFile(folder: string, schema: SqliteSchema): SqliteFile {
  prepareFolder(folder);
  const lock = takeLock(folder, schema.name);
  const path = join(folder, `${schema.name}.db`);
  try {
    // Made here, so that the log beside it, which copies its mode, is for nobody else either.
    closeSync(openSync(path, 'a', 0o600));
    const database = new Database(path);
    prepare(database, path, schema);
    const truncateLog = (): void => void database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    // A process that was killed has left what it had deleted in the log.
    truncateLog();
    return {
      database,
      path,
      truncateLog,
      close: () => {
        truncateLog();
        database.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error instanceof StoreError ? error : failed(`open ${path}`, error);
  }
}

function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StoreError(
      `Cannot keep data in "${folder}": ${textOf(error)}. ` +
        'Give this user a folder it may write to with --data',
      { cause: error },
    );
  }
}

/**
 * A transaction on a file of its own that is never ended: the system ends it with the process, however that dies.
 * (The database's own exclusive mode would do, but libsql lets go of a closed database only at a garbage collection.)
 */
function takeLock(folder: string, name: string): { release(): void } {
  const path = join(folder, `${name}.lock`);
  try {
    closeSync(openSync(path, 'a', 0o600));
    const lock = new Database(path);
    lock.exec('BEGIN EXCLUSIVE');
    return {
      release: () => {
        lock.exec('ROLLBACK');
        lock.close();
      },
    };
  } catch (error) {
    if (codeOf(error) !== 'SQLITE_BUSY') throw failed(`lock ${path}`, error);
    throw new StoreError(
      `Cannot use the data in "${folder}": another process holds it. ` +
        'Stop that one, or give each its own folder with --data; several nodes share their data through Redis',
      { cause: error },
    );
  }
}

function prepare(
  database: Database.Database,
  path: string,
  { applicationId, steps }: SqliteSchema,
): void {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  // What is deleted or written over is overwritten with zeros in the file, not only forgotten.
  database.exec('PRAGMA secure_delete = ON');
  const version = pragma(database, 'user_version');
  const application = pragma(database, 'application_id');
  if (version === 0 && application === 0 && hasNoTables(database)) {
    database.exec(`PRAGMA application_id = ${applicationId}`);
  } else if (application !== applicationId) {
    throw new StoreError(
      `Cannot use ${path}: it is a database of another program. Give another folder`,
    );
  }
  if (version > steps.length) {
    throw new StoreError(
      `Cannot use ${path}: it has schema version ${version}, and this Halfway knows ${steps.length}. ` +
        'Run the version that wrote it, or a newer one',
    );
  }
  for (const [index, step] of steps.entries()) {
    if (index < version) continue;
    database.exec(`BEGIN IMMEDIATE; ${step} PRAGMA user_version = ${index + 1}; COMMIT`);
  }
}

function pragma(database: Database.Database, name: string): number {
  const row: unknown = database.prepare(`PRAGMA ${name}`).get();
  return numberIn(row, name);
}

function hasNoTables(database: Database.Database): boolean {
  return (
    numberIn(database.prepare('SELECT count(*) AS tables FROM sqlite_schema').get(), 'tables') === 0
  );
}

/** A column that holds a number; rows are looked at by name, because libsql adds a key of its own to each. */
export function numberIn(row: unknown, column: string): number {
  return Number(columnOf(row, column) ?? 0);
}

/** A column that holds a text, or undefined for NULL. */
export function textIn(row: unknown, column: string): string | undefined {
  const value = columnOf(row, column);
  return typeof value === 'string' ? value : undefined;
}

function columnOf(row: unknown, column: string): unknown {
  if (typeof row !== 'object' || row === null) return undefined;
  return Reflect.get(row, column);
}

/** A failure of SQLite or the file system, with what to do about the usual ones. */
export function failed(what: string, error: unknown): StoreError {
  const remedy = REMEDIES[codeOf(error)];
  const more = remedy === undefined ? '' : `. ${remedy}`;
  return new StoreError(`Cannot ${what}: ${textOf(error)}${more}`, { cause: error });
}

const REMEDIES: Readonly<Record<string, string>> = {
  SQLITE_FULL: 'Make room on the disk',
  SQLITE_NOTADB: 'The file is not a database: move it away, or give another folder with --data',
  SQLITE_CORRUPT: 'The file is damaged: restore it from a backup',
  SQLITE_READONLY: 'Give this user the right to write to it',
};

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
