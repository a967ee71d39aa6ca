import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'libsql';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { RANGE_MAX } from '../../src/store/dispatch-store.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { openSqliteDispatchStore } from '../../src/store/sqlite-dispatch-store.ts';
import { SqliteStore } from '../../src/store/sqlite-store.ts';
import { describeDispatchStore } from '../conformance/dispatch-store.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { someFolder } from '../support/some-folder.ts';
import { within } from '../support/within.ts';

const P = 'tests';
const RUN = { kind: 'run', id: 'a' };
const WRITER = join(import.meta.dirname, '../support/dispatch-writer.ts');

describeDispatchStore('openSqliteDispatchStore()', async () => {
  const folder = someFolder();
  const store = openSqliteDispatchStore(folder.path);
  return Promise.resolve({
    store,
    other: store,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      folder[Symbol.dispose]();
    },
  });
});

describe('openSqliteDispatchStore()', () => {
  test('finds what was written before, and goes on counting', async () => {
    using folder = someFolder();
    const step = {
      conditions: [],
      puts: [{ key: RUN, text: '{}' }],
      adds: [{ index: 'q', member: 'a', score: 2 ** 43 + 0.5 }],
      appends: [{ log: 'events', text: 'x', keep: 1 }],
    };
    const first = openSqliteDispatchStore(folder.path);
    await first.step(P, step);
    await first.close();
    const second = openSqliteDispatchStore(folder.path);
    await second.step(P, step);
    expect(await second.get(P, RUN)).toEqual({ key: RUN, version: 2, text: '{}' });
    expect(await second.count(P, 'q')).toBe(1);
    expect(await second.score(P, 'q', 'a')).toBe(2 ** 43 + 0.5);
    expect(await second.log(P, 'events', { after: 0, limit: 9 })).toEqual({
      first: 2,
      entries: [{ number: 2, text: 'x' }],
    });
    await second.close();
  });

  test('has every step that a killed process was answered, whole, and at most one more', async () => {
    using folder = someFolder();
    const args = ['--import', 'tsx', WRITER, folder.path];
    const writer = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(writer, 'exit');
    let answered = 0;
    const lines = createInterface({ input: writer.stdout });
    const enough = new Promise<void>(resolve => {
      lines.on('line', line => {
        answered = Number(line);
        if (answered === 50) resolve();
      });
    });
    const closed = once(lines, 'close');
    await within('the process writes', enough, 20_000);
    writer.kill('SIGKILL');
    await exited;
    await closed;
    const store = openSqliteDispatchStore(folder.path);
    const count = await store.count(P, 'q');
    expect(answered).toBeGreaterThanOrEqual(50);
    expect([answered, answered + 1]).toContain(count);
    const numbers = Array.from({ length: count }, (_, i) => i + 1);
    const queued = await store.range(P, 'q', { from: count - 49, limit: RANGE_MAX });
    expect(queued.map(({ score }) => score)).toEqual(numbers.slice(-50));
    const { entries } = await store.log(P, 'events', { after: count - 50, limit: RANGE_MAX });
    expect(entries.map(({ text }) => Number(text))).toEqual(numbers.slice(-50));
    for (const number of numbers) {
      const document = await store.get(P, { kind: 'run', id: `${number}` });
      expect(document?.text).toBe(`${number}`);
    }
    await store.close();
  });

  test('writes through to the disk at each commit, for nobody else to see', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    const path = join(folder.path, 'dispatch.db');
    expect(store).toMatchObject({ shown: path, durability: '', isDurable: true, isShared: false });
    const database = new Database(path);
    expect(database.prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'wal' });
    expect(database.prepare('PRAGMA user_version').get()).toMatchObject({ user_version: 1 });
    database.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await store.close();
  });

  test('leaves nothing of what was removed in its files, a second later or at the next start', async () => {
    using folder = someFolder();
    const clock = new FakeClock();
    const texts = [1, 2, 3].map(n => `canary ${n} `.repeat(1_000));
    const left = (): readonly string[] => {
      const bytes = ['dispatch.db', 'dispatch.db-wal'].map(name => join(folder.path, name));
      const all = bytes.filter(path => existsSync(path)).map(path => readFileSync(path));
      return ['canary 1', 'canary 2', 'canary 3'].filter(text => Buffer.concat(all).includes(text));
    };
    const [first, second, third] = [RUN, { ...RUN, id: 'b' }, { ...RUN, id: 'c' }];
    const keys = [first, second, third];
    const store = openSqliteDispatchStore(folder.path, clock);
    const puts = texts.map((text, index) => ({ key: keys[index] ?? RUN, text }));
    await store.step(P, { conditions: [], puts });
    await store.step(P, { conditions: [], removes: [first] });
    expect(left()).toEqual(['canary 1', 'canary 2', 'canary 3']);
    clock.advance(999);
    expect(left()).toContain('canary 1');
    clock.advance(1);
    expect(left()).toEqual(['canary 2', 'canary 3']);
    // What is written over has longer.
    await store.step(P, { conditions: [], puts: [{ key: second, text: '{}' }] });
    clock.advance(29_999);
    expect(left()).toContain('canary 2');
    clock.advance(1);
    expect(left()).toEqual(['canary 3']);
    expect(clock.pendingTasks).toBe(0);
    // As a process leaves them that is killed before: the files are copied while they are in use.
    await store.step(P, { conditions: [], removes: [third] });
    using copy = someFolder();
    for (const end of ['db', 'db-wal']) {
      const name = `dispatch.${end}`;
      copyFileSync(join(folder.path, name), join(copy.path, name));
    }
    await store.close();
    const log = readFileSync(join(copy.path, 'dispatch.db-wal'));
    expect(log.length).toBeGreaterThan(0);
    const again = openSqliteDispatchStore(copy.path, clock);
    const bytes = readFileSync(join(copy.path, 'dispatch.db'));
    expect(bytes.includes('canary 3')).toBe(false);
    expect(statSync(join(copy.path, 'dispatch.db-wal')).size).toBe(0);
    await again.close();
  });

  test('shares its folder with the relay, but with no other of its kind', async () => {
    using folder = someFolder();
    const relay = SqliteStore.open(folder.path, systemClock);
    const store = openSqliteDispatchStore(folder.path);
    expect(() => openSqliteDispatchStore(folder.path)).toThrow(/another process holds it/);
    expect(() => openSqliteDispatchStore(folder.path)).toThrow(StoreError);
    await store.close();
    await openSqliteDispatchStore(folder.path).close();
    relay.close();
  });

  test('takes steps of one turn together, and each on its own conditions', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    const outcomes = await Promise.all(
      [0, 0, 1, 1, 2].map(version =>
        store.step(P, {
          conditions: [{ type: 'version', key: RUN, version }],
          puts: [{ key: RUN, text: `${version}` }],
        }),
      ),
    );
    expect(outcomes.map(({ type }) => type)).toEqual([
      'done',
      'refused',
      'done',
      'refused',
      'done',
    ]);
    expect(await store.get(P, RUN)).toEqual({ key: RUN, version: 3, text: '2' });
    await store.close();
  });

  test('close() takes the steps that were asked for before it', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    const step = store.step(P, { conditions: [], puts: [{ key: RUN, text: '{}' }] });
    await store.close();
    expect(await step).toEqual({ type: 'done' });
    const again = openSqliteDispatchStore(folder.path);
    expect(await again.get(P, RUN)).toMatchObject({ version: 1 });
    await again.close();
  });

  test('keeps copies of what is read and written in memory, and of what was removed none', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    expect(store.cachedBytes).toBe(0);
    await store.step(P, { conditions: [], puts: [{ key: RUN, text: '{"secret":1}' }] });
    const written = await store.get(P, RUN);
    expect(written).toEqual({ key: RUN, version: 1, text: '{"secret":1}' });
    expect(await store.get(P, RUN)).toBe(written);
    expect(store.cachedBytes).toBeGreaterThan(0);
    await store.step(P, { conditions: [], puts: [{ key: RUN, text: '{"secret":2}' }] });
    expect(await store.getMany(P, [RUN])).toEqual([{ key: RUN, version: 2, text: '{"secret":2}' }]);
    await store.step(P, { conditions: [], removes: [RUN] });
    expect(store.cachedBytes).toBe(0);
    expect(await store.get(P, RUN)).toBeUndefined();
    await store.step(P, { conditions: [], puts: [{ key: RUN, text: '{}' }] });
    expect(await store.get(P, RUN)).toMatchObject({ version: 1 });
    await store.close();
    expect(store.cachedBytes).toBe(0);
    const again = openSqliteDispatchStore(folder.path);
    await again.get(P, RUN);
    expect(again.cachedBytes).toBeGreaterThan(0);
    await again.close();
  });

  test('step() that the disk refuses leaves no copy of what it and its neighbours wrote', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    const other = { ...RUN, id: 'b' };
    const put = (key: typeof RUN, text: string) =>
      store.step(P, { conditions: [], puts: [{ key, text }] });
    await put(RUN, '1');
    await put(other, '1');
    const meddler = new Database(join(folder.path, 'dispatch.db'));
    meddler.exec(
      `CREATE TRIGGER full BEFORE UPDATE ON documents WHEN NEW.id = 'b' BEGIN SELECT RAISE(ABORT, 'no room'); END`,
    );
    const settled = await Promise.allSettled([
      put(RUN, '2'),
      store.step(P, { conditions: [], removes: [RUN] }),
      put(other, '2'),
    ]);
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(await store.getMany(P, [RUN, other])).toEqual([
      { key: RUN, version: 1, text: '1' },
      { key: other, version: 1, text: '1' },
    ]);
    meddler.exec('DROP TRIGGER full');
    meddler.close();
    await put(RUN, '3');
    expect(await store.get(P, RUN)).toEqual({ key: RUN, version: 2, text: '3' });
    await store.close();
  });

  test('step() rejects with StoreError when the disk refuses, and nothing is done', async () => {
    using folder = someFolder();
    const store = openSqliteDispatchStore(folder.path);
    await store.step(P, { conditions: [], puts: [{ key: RUN, text: '1' }] });
    const meddler = new Database(join(folder.path, 'dispatch.db'));
    meddler.exec(
      `CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no room'); END`,
    );
    const step = store.step(P, {
      conditions: [],
      puts: [{ key: RUN, text: '2' }],
      appends: [{ log: 'events', text: 'x', keep: 1 }],
    });
    await expect(step).rejects.toThrow(StoreError);
    await expect(step).rejects.toThrow(/Cannot write .*no room/);
    expect(await store.get(P, RUN)).toMatchObject({ version: 1, text: '1' });
    meddler.exec('DROP TRIGGER full');
    meddler.close();
    await store.step(P, { conditions: [], puts: [{ key: RUN, text: '3' }] });
    expect(await store.get(P, RUN)).toMatchObject({ version: 2, text: '3' });
    await store.close();
  });
});
