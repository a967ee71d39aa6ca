import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { SqliteStore } from '../../src/store/sqlite-store.ts';
import {
  aHybridConnection,
  describeRelayStore,
  describeSpoiledStore,
  type SpoiledStoreUnderTest,
} from '../conformance/relay-store.ts';
import { someFolder } from '../support/some-folder.ts';

async function open(): Promise<SpoiledStoreUnderTest> {
  const folder = someFolder();
  const store = SqliteStore.open(folder.path, systemClock);
  return Promise.resolve({
    store,
    other: store,
    spoil: async (key: string) => {
      const database = new Database(join(folder.path, 'halfway.db'));
      database.prepare('UPDATE records SET text = ? WHERE key = ?').run('{"rules":7}', key);
      database.close();
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: async () => {
      store.close();
      folder[Symbol.dispose]();
      return Promise.resolve();
    },
  });
}

describeRelayStore('SqliteStore', open);
describeSpoiledStore('SqliteStore', open);

function faultOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof StoreError) return error.message;
    throw error;
  }
  throw new Error('It went well');
}

describe('SqliteStore.open()', () => {
  test('finds what was written before, and goes on counting', async () => {
    using folder = someFolder();
    const first = SqliteStore.open(folder.path, systemClock);
    await first.put(aHybridConnection('a'), { expectedVersion: 0, hybridConnectionsMax: 9 });
    const before = await first.snapshot();
    first.close();
    const second = SqliteStore.open(folder.path, systemClock);
    expect(await second.snapshot()).toEqual(before);
    const outcome = await second.put(aHybridConnection('b'), {
      expectedVersion: 0,
      hybridConnectionsMax: 9,
    });
    expect(outcome).toMatchObject({ type: 'written', position: { number: 2 } });
    second.close();
  });

  test('makes the folder, and nobody else may look into it', () => {
    using folder = someFolder();
    const path = join(folder.path, 'deep/data');
    SqliteStore.open(path, systemClock).close();
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(statSync(join(path, 'halfway.db')).mode & 0o777).toBe(0o600);
  });

  test('writes through to the disk at each commit', () => {
    using folder = someFolder();
    const store = SqliteStore.open(folder.path, systemClock);
    const database = new Database(join(folder.path, 'halfway.db'));
    expect(database.prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'wal' });
    database.close();
    store.close();
  });

  test('refuses a folder that another one holds, and says what to do', () => {
    using folder = someFolder();
    const holder = SqliteStore.open(folder.path, systemClock);
    const fault = faultOf(() => SqliteStore.open(folder.path, systemClock));
    expect(fault).toContain('another process holds it');
    expect(fault).toContain('--data');
    holder.close();
    SqliteStore.open(folder.path, systemClock).close();
  });

  test('refuses a path that is no folder', () => {
    using folder = someFolder();
    const path = join(folder.path, 'file');
    writeFileSync(path, '');
    expect(faultOf(() => SqliteStore.open(path, systemClock))).toContain(`"${path}"`);
  });

  test('refuses a folder it may not make', () => {
    const path = '/dev/null/data';
    const fault = faultOf(() => SqliteStore.open(path, systemClock));
    expect(fault).toContain(`Cannot keep data in "${path}"`);
    expect(fault).toContain('--data');
  });

  test('refuses what is no database, and one of another program', () => {
    using folder = someFolder();
    const path = join(folder.path, 'halfway.db');
    writeFileSync(path, 'x'.repeat(4_096));
    expect(faultOf(() => SqliteStore.open(folder.path, systemClock))).toContain('not a database');
    rmSync(path);
    const foreign = new Database(path);
    foreign.exec('CREATE TABLE theirs (a)');
    foreign.close();
    expect(faultOf(() => SqliteStore.open(folder.path, systemClock))).toContain('another program');
  });

  test('refuses a database of a newer version', () => {
    using folder = someFolder();
    SqliteStore.open(folder.path, systemClock).close();
    const newer = new Database(join(folder.path, 'halfway.db'));
    newer.exec('PRAGMA user_version = 99');
    newer.close();
    expect(faultOf(() => SqliteStore.open(folder.path, systemClock))).toContain('version 99');
  });
});
