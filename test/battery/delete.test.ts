import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Connections } from '../../src/dispatch/connections.ts';
import { Retention } from '../../src/dispatch/retention.ts';
import type { Envelope } from '../../src/crypto/envelope.ts';
import type { DispatchStore } from '../../src/store/dispatch-store.ts';
import { openSqliteDispatchStore } from '../../src/store/sqlite-dispatch-store.ts';
import { ANN, dispatchBench } from '../support/dispatch.ts';
import { openDispatchNode } from '../support/dispatch-nodes.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

// What was deleted is nowhere: job-dispatch.md section 13, item 7, and row A17.

const DAY_MS = 24 * 3_600_000;
const AWAY_MS = 10_000;

function envelope(): Envelope {
  const [enc, ct] = [Buffer.concat([Buffer.of(4), randomBytes(64)]), randomBytes(272)];
  const [encText, ctText] = [enc.toString('base64url'), ct.toString('base64url')];
  return { v: 1, suite: 'p256', kid: 'k'.repeat(43), enc: encText, ct: ctText };
}

/** Of these envelopes those of which something is in the bytes: as a text, its bytes, or their hex. */
function foundIn(bytes: Buffer, envelopes: Readonly<Record<string, Envelope>>): readonly string[] {
  return Object.entries(envelopes)
    .filter(([, { enc, ct }]) =>
      [enc, ct].some(text => {
        const raw = Buffer.from(text, 'base64url');
        // Also a part of it: pages of a file cut what is longer than they are.
        const forms = [
          text.slice(0, 40),
          text.slice(-40),
          raw.subarray(1, 33),
          raw.toString('hex'),
        ];
        return forms.some(form => bytes.includes(form));
      }),
    )
    .map(([name]) => name);
}

/** Two connections and two runs with something sealed; then one of each is deleted, one connection is changed. */
async function deletedAndKept(store: DispatchStore, everything: () => Promise<Buffer>) {
  const bench = dispatchBench(store);
  const connections = new Connections(bench.repository, bench.changes, bench.clock);
  const kept = { connection: envelope(), input: envelope(), next: envelope() };
  const gone = { connection: envelope(), input: envelope(), replaced: envelope() };
  const kid = 'k'.repeat(43);
  await bench.addMachine('m1', { encryptionKey: { kid, suite: 'p256', point: '' } });
  const connect = (id: string, sealed: Envelope) =>
    connections.create(ANN, {
      id,
      name: id,
      target: { kind: 'machine', id: 'm1' },
      envelope: sealed,
    });
  await connect('kept', kept.connection);
  await connect('gone', gone.connection);
  await connect('changed', gone.replaced);
  const ended = await bench.submit({ connectionId: 'kept', sealedInputs: { a: gone.input } });
  await bench.changes.advance(ended, { type: 'picked', machineId: 'm1' });
  const about = { runId: ended, attempt: 1, fence: 1 };
  await bench.reports.start('m1', { ...about, instance: 'i1' });
  await bench.reports.result('m1', { v: 1, type: 'result', ...about, status: 'Succeeded' });
  await bench.submit({ connectionId: 'kept', sealedInputs: { a: kept.input } });
  // The search finds what is there.
  const before = await everything();
  expect(foundIn(before, gone)).toEqual(Object.keys(gone));
  expect(foundIn(before, kept)).toEqual(['connection', 'input']);

  await connections.delete(ANN, 'gone', 1);
  const patch = { envelope: kept.next, credentialVersion: 2 };
  await connections.patch(ANN, 'changed', 1, patch);
  bench.clock.advance(7 * DAY_MS);
  const retention = new Retention(bench.repository, bench.clock, () => Promise.resolve(undefined));
  expect(await retention.sweep()).toBe(1);
  return { kept, gone };
}

test('of what is deleted, kept for long enough or replaced nothing is in the SQLite files', async () => {
  using folder = someFolder();
  const store = openSqliteDispatchStore(folder.path);
  const everything = async (): Promise<Buffer> => Promise.resolve(filesOf(folder.path));
  const { kept, gone } = await deletedAndKept(store, everything);
  const log = join(folder.path, 'dispatch.db-wal');
  await until('the log is emptied', () => !existsSync(log) || statSync(log).size === 0, AWAY_MS);
  const after = await everything();
  expect(foundIn(after, gone)).toEqual([]);
  expect(foundIn(after, kept)).toEqual(Object.keys(kept));
  await store.close();
});

test('of what is deleted, kept for long enough or replaced nothing is in Redis and its files', async () => {
  await using redis = await startRedis(['--appendonly', 'yes', '--appendfsync', 'always']);
  await using node = await openDispatchNode({ url: redis.url });
  const { kept, gone } = await deletedAndKept(node.store, async () => everythingOf(redis));
  // In memory at once.
  expect(foundIn(await dumpOf(redis), gone)).toEqual([]);
  // In the file as soon as it is written anew, which Redis does by itself when it has grown.
  expect(foundIn(await everythingOf(redis), gone)).toEqual(Object.keys(gone));
  await redis.admin.bgrewriteaof();
  await until('the file is written anew', async () => {
    const info = await redis.admin.info('persistence');
    return info.includes('aof_rewrite_in_progress:0') && info.includes('aof_rewrite_scheduled:0');
  });
  const after = await everythingOf(redis);
  expect(foundIn(after, gone)).toEqual([]);
  expect(foundIn(after, kept)).toEqual(Object.keys(kept));
});

async function dumpOf(redis: TestRedis): Promise<Buffer> {
  const keys = await redis.admin.keys('*');
  // As they are, not as DUMP packs them.
  const read = keys.map(async key => {
    const type = await redis.admin.type(key);
    if (type === 'string') return redis.admin.get(key);
    if (type === 'stream') return redis.admin.xrange(key, '-', '+');
    if (type === 'zset') return redis.admin.zrange(key, '0', '-1');
    throw new Error(`${key} is a ${type}`);
  });
  return Buffer.from(JSON.stringify([keys, await Promise.all(read)]));
}

async function everythingOf(redis: TestRedis): Promise<Buffer> {
  const [, folder = ''] = await redis.admin.config('GET', 'dir');
  return Buffer.concat([await dumpOf(redis), filesOf(folder)]);
}

function filesOf(folder: string): Buffer {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const files = names.map(name => join(folder, name)).filter(path => statSync(path).isFile());
  return Buffer.concat(files.map(path => readFileSync(path)));
}
