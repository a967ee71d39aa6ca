import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { DirectoryEvent, ListenerDirectory } from '../../src/cluster/listener-directory.ts';
import { DIRECTORY_TIMES } from '../../src/cluster/limits.ts';
import { openRedisDirectory } from '../../src/cluster/redis-directory.ts';
import { directoryKeys } from '../../src/redis/keys.ts';
import {
  aListener,
  reportBug,
  targetOf,
  TEST_COMMAND_TIMEOUT_MS,
  TEST_TIMES,
} from '../support/directories.ts';
import { startRedis, startRedisCluster, startSentinel } from '../support/redis.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/within.ts';

const MANY = { listenersMax: 10_000 };
const PATIENCE_MS = 15_000;
/** Whatever a Redis Cluster and three more processes do on a busy machine. */
const CLUSTER_PATIENCE_MS = 60_000;
/** Times as they are shipped, which a Redis Cluster keeps there too. */
const SHIPPED = { times: DIRECTORY_TIMES, commandTimeoutMs: 2_000 };
const KEYS = directoryKeys('halfway');

interface Opened extends AsyncDisposable {
  readonly directory: ListenerDirectory;
  readonly events: DirectoryEvent[];
}

function open(
  url: string,
  node: string,
  { times, commandTimeoutMs } = { times: TEST_TIMES, commandTimeoutMs: TEST_COMMAND_TIMEOUT_MS },
): Opened {
  const directory = openRedisDirectory({
    node,
    meshAddress: `${node}.example:7000`,
    versions: { min: 1, max: 1 },
    clock: systemClock,
    reportBug,
    target: targetOf(url),
    times,
    commandTimeoutMs,
  });
  const events: DirectoryEvent[] = [];
  directory.observe(event => events.push(event));
  return { directory, events, [Symbol.asyncDispose]: () => directory.leave() };
}

function orders(directory: ListenerDirectory): number {
  return directory.listenersOf('tests', 'orders').length;
}

function isWhole(directory: ListenerDirectory): boolean {
  return directory.degradedReasons().length === 0;
}

async function untilAllSee(count: number, ...opened: readonly Opened[]): Promise<void> {
  await untilAllSeeWithin(PATIENCE_MS, count, ...opened);
}

async function untilAllSeeWithin(
  patienceMs: number,
  count: number,
  ...opened: readonly Opened[]
): Promise<void> {
  await until(
    `all are whole and see ${count}`,
    () => opened.every(({ directory }) => isWhole(directory) && orders(directory) === count),
    patienceMs,
  );
}

describe('a directory', () => {
  test('goes on from memory while Redis is killed, and fills it when it returns empty', async () => {
    await using redis = await startRedis();
    await using a = open(redis.url, 'a');
    await using b = open(redis.url, 'b');
    await a.directory.join();
    await b.directory.join();
    await a.directory.claim(aListener(), MANY);
    await untilAllSee(1, a, b);
    await redis.kill();
    await until('both know', () => !isWhole(a.directory) && !isWhole(b.directory));
    expect(await b.directory.claim(aListener(), MANY)).toEqual({
      type: 'claimed',
      provisional: true,
    });
    expect(orders(a.directory)).toBe(1);
    await redis.start();
    await untilAllSee(2, a, b);
    await using c = open(redis.url, 'c');
    await c.directory.join();
    expect(orders(c.directory)).toBe(2);
  });

  test('takes a line that loses everything for an outage, within the time of a command', async () => {
    await using redis = await startRedis();
    await using proxy = await startTcpProxy(redis.port);
    await using a = open(`redis://127.0.0.1:${proxy.port}`, 'a');
    await a.directory.join();
    proxy.stall();
    const startedAtMs = performance.now();
    expect(await a.directory.claim(aListener(), MANY)).toEqual({
      type: 'claimed',
      provisional: true,
    });
    expect(performance.now() - startedAtMs).toBeLessThan(2 * TEST_COMMAND_TIMEOUT_MS);
    expect(a.directory.degradedReasons()).toEqual(['coordinator-away']);
    proxy.mend();
    await untilAllSee(1, a);
  });

  test('follows a Sentinel failover to the new master', async () => {
    await using sentinel = await startSentinel();
    await using a = open(sentinel.url, 'a');
    await using b = open(sentinel.url, 'b');
    expect(await a.directory.join()).toEqual({ type: 'joined' });
    await b.directory.join();
    await a.directory.claim(aListener(), MANY);
    await untilAllSee(1, a, b);
    await sentinel.master.kill();
    await until('a knows', () => !isWhole(a.directory));
    await untilAllSee(1, a, b);
    expect(await b.directory.claim(aListener(), MANY)).toEqual({
      type: 'claimed',
      provisional: false,
    });
    await untilAllSee(2, a, b);
    expect(await sentinel.replica.admin.zcard(KEYS.leases)).toBe(2);
  });

  // How soon a Redis Cluster trusts a node that came back is its own affair, and takes longer where all is busy.
  test(
    'lives on a Redis Cluster, and survives the loss of the node that has its slot',
    { timeout: 4 * CLUSTER_PATIENCE_MS },
    async () => {
      await using cluster = await startRedisCluster();
      await using a = open(cluster.url, 'a', SHIPPED);
      await using b = open(cluster.url, 'b', SHIPPED);
      expect(await a.directory.join()).toEqual({ type: 'joined' });
      expect(await b.directory.join()).toEqual({ type: 'joined' });
      await Promise.all(Array.from({ length: 20 }, () => a.directory.claim(aListener(), MANY)));
      await untilAllSeeWithin(CLUSTER_PATIENCE_MS, 20, a, b);
      const places = await Promise.all(cluster.nodes.map(node => node.admin.dbsize()));
      expect(places.filter(count => count > 0)).toHaveLength(1);
      const holder = cluster.nodes[places.findIndex(count => count > 0)];
      await holder?.kill();
      await until('a knows', () => !isWhole(a.directory), CLUSTER_PATIENCE_MS);
      expect(await a.directory.claim(aListener(), MANY)).toMatchObject({ type: 'claimed' });
      await holder?.start();
      await untilAllSeeWithin(CLUSTER_PATIENCE_MS, 21, a, b);
    },
  );

  test('says what lies under its keys and is not its own', async () => {
    await using redis = await startRedis(['--maxmemory-policy', 'allkeys-lru']);
    await redis.admin.set(KEYS.nodes, 'somebody else');
    await using a = open(redis.url, 'a');
    const refused = await a.directory.join();
    expect(refused).toEqual({
      type: 'refused',
      message: `Redis at ${redis.url} has a string under "{halfway}:nodes", where the directory keeps a hash: give this cluster another key prefix than "halfway", or remove the key`,
    });
    expect(a.directory.warnings()).toEqual([
      expect.stringContaining('maxmemory-policy "allkeys-lru"'),
    ]);

    await redis.admin.del(KEYS.nodes);
    await redis.admin.hset(KEYS.meta, 'schema', '2');
    await using b = open(redis.url, 'b');
    expect(await b.directory.join()).toMatchObject({
      type: 'refused',
      message: expect.stringContaining('schema "2"'),
    });
  });

  test('refuses a replica', async () => {
    await using redis = await startRedis();
    await using replica = await startRedis(['--replicaof', '127.0.0.1', String(redis.port)]);
    await using a = open(replica.url, 'a');
    expect(await a.directory.join()).toMatchObject({
      type: 'refused',
      message: expect.stringContaining('is a replica'),
    });
  });

  test('warns of foreign data that appears later, and recovers when it is removed', async () => {
    await using redis = await startRedis();
    await using a = open(redis.url, 'a');
    await a.directory.join();
    await a.directory.claim(aListener(), MANY);
    await redis.admin.set(KEYS.leases, 'somebody else');
    await until('a warns', () => a.directory.degradedReasons().includes('coordinator-unusable'));
    expect(a.directory.warnings()).toEqual([
      expect.stringContaining('has foreign data under keys'),
    ]);
    expect(orders(a.directory)).toBe(1);
    await redis.admin.del(KEYS.leases);
    await untilAllSee(1, a);
  });

  const meddling: readonly (readonly [string, (redis: Opened2) => Promise<unknown>])[] = [
    ['a row removed', ({ admin, rows, key }) => admin.hdel(rows, key)],
    [
      'a row altered',
      ({ admin, rows, key }) => admin.hset(rows, key, '1 ["tests","orders","x","y"]'),
    ],
    ['all rows removed', ({ admin, rows }) => admin.del(rows)],
    ['a row that is none', ({ admin, rows }) => admin.hset(rows, 'stray', 'no row at all')],
    ['digests removed', ({ admin }) => admin.del(KEYS.digests)],
    ['leases removed', ({ admin }) => admin.del(KEYS.leases)],
    ['nodes removed', ({ admin }) => admin.del(KEYS.nodes)],
    ['the feed removed', ({ admin }) => admin.del(KEYS.feed)],
    ['the feed altered', ({ admin }) => admin.xadd(KEYS.feed, '*', 'type', 'nonsense')],
    ['the number of changes removed', ({ admin }) => admin.del(KEYS.meta)],
    ['the number of changes set back', ({ admin }) => admin.hincrby(KEYS.meta, 'seq', -1)],
  ];
  interface Opened2 {
    readonly admin: import('ioredis').Redis;
    readonly rows: string;
    readonly key: string;
  }

  test.each(meddling)('repairs what somebody meddled with: %s', async (_what, meddle) => {
    await using redis = await startRedis();
    await using a = open(redis.url, 'a');
    await using b = open(redis.url, 'b');
    await a.directory.join();
    await b.directory.join();
    const listener = aListener();
    await a.directory.claim(listener, MANY);
    await a.directory.claim(aListener(), MANY);
    await untilAllSee(2, a, b);
    const { epoch } = a.directory.self();
    await meddle({ admin: redis.admin, rows: KEYS.rows('a', epoch), key: listener.key });
    await a.directory.claim(aListener(), MANY);
    await untilAllSee(3, a, b);
    // What memory has may be right while Redis is not: until a node reads Redis, nobody sees that.
    await wait(2 * TEST_TIMES.renewMs);
    await untilAllSee(3, a, b);
    await using fresh = open(redis.url, 'fresh');
    await fresh.directory.join();
    expect(orders(fresh.directory)).toBe(3);
  });

  test('leaves nothing behind in Redis when all nodes are gone', async () => {
    await using redis = await startRedis();
    await using a = open(redis.url, 'a');
    await a.directory.join();
    await Promise.all(Array.from({ length: 3_000 }, () => a.directory.claim(aListener(), MANY)));
    await using b = open(redis.url, 'b');
    await b.directory.join();
    await a.directory.leave();
    await until('the rows are collected', async () => {
      return (await redis.admin.keys('*:rows:*')).length === 0;
    });
    await b.directory.leave();
    const left = await redis.admin.keys('*');
    expect(left.toSorted()).toEqual([KEYS.feed, KEYS.garbage, KEYS.meta]);
  });
});
