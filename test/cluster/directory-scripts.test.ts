import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { texts } from '../../src/cluster/redis-formats.ts';
import { directoryScripts } from '../../src/cluster/directory-scripts.ts';
import { openRedis, type RedisClient } from '../../src/redis/client.ts';
import { directoryKeys } from '../../src/redis/keys.ts';
import { scriptLoader } from '../../src/redis/scripts.ts';
import { targetOf } from '../support/directories.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';

const KEYS = directoryKeys('t');
const { meta, leases, nodes, digests, feed, garbage } = KEYS;
const FEED_MAX = 1_000;
const LEASE_MS = 10_000;

let redis: TestRedis;
let client: RedisClient;
let scripts: ReturnType<typeof directoryScripts>;

beforeAll(async () => {
  redis = await startRedis();
  client = openRedis({
    target: targetOf(redis.url),
    clock: systemClock,
    connectionName: 'tests',
    commandTimeoutMs: 2_000,
    blockingMsMax: 0,
  });
  await client.untilUp(5_000);
  scripts = directoryScripts(scriptLoader(client));
});
afterAll(async () => {
  client.close();
  await redis[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await redis.admin.flushall();
});

async function take(node: string, epoch: string, leaseMs = LEASE_MS, previous = '') {
  return scripts.takeLease(
    [meta, leases, nodes, digests, feed, garbage],
    [node, epoch, 7, '{"r":1}', leaseMs, previous, FEED_MAX],
  );
}
async function renew(node: string, epoch: string) {
  return scripts.renewLease([meta, leases, nodes, digests, garbage], [node, epoch, LEASE_MS, 10]);
}
async function claim(node: string, epoch: string, key: string, max = 100, part = 5) {
  return scripts.claimListener(
    [meta, leases, nodes, digests, feed, KEYS.rows(node, epoch), KEYS.listeners('n', 'h')],
    [node, epoch, key, part, '["n","h"]', `[["${key}",${part},"x"]]`, max, FEED_MAX],
  );
}
async function write(node: string, epoch: string, rows: readonly (readonly [string, number])[]) {
  return scripts.writeListeners(
    [
      meta,
      nodes,
      digests,
      feed,
      KEYS.rows(node, epoch),
      ...rows.map(() => KEYS.listeners('n', 'h')),
    ],
    [node, epoch, '[]', FEED_MAX, ...rows.flatMap(([key, part]) => [key, part, '["n","h"]'])],
  );
}
async function release(node: string, epoch: string, keys: readonly string[]) {
  return scripts.releaseListeners(
    [
      meta,
      nodes,
      digests,
      feed,
      KEYS.rows(node, epoch),
      ...keys.map(() => KEYS.listeners('n', 'h')),
    ],
    [node, epoch, '[]', FEED_MAX, ...keys],
  );
}
async function remove(why: string, ...seen: readonly (string | number)[]) {
  return scripts.removeNodes(
    [meta, leases, nodes, digests, feed, garbage],
    [why, FEED_MAX, ...seen],
  );
}
/** Types of the changes so far; their numbers have no gap. */
async function changes(): Promise<readonly string[]> {
  const entries = await redis.admin.xrange(feed, '-', '+');
  const seqs = entries.map(([id]) => Number(id.split('-')[1]));
  expect(seqs).toEqual(seqs.map((_, i) => i + 1));
  return entries.map(([, fields]) => String(fields[fields.indexOf('type') + 1]));
}

const describeNode = async (epoch: string) =>
  scripts.describeNode([meta, nodes, digests, feed], ['a', epoch, 9, '{"r":2}', FEED_MAX]);

const leave = async (epoch: string) =>
  scripts.leave([meta, leases, nodes, digests, feed, garbage], ['a', epoch, FEED_MAX]);

const challenge = async () => scripts.challengeNode([meta, leases, nodes, feed], ['a', FEED_MAX]);

const state = async () => scripts.readState([meta, leases, nodes, digests], []);

describe('take-lease.lua', () => {
  test('{"taken"}: a new node, the same epoch again, a previous epoch of its own, an expired one', async () => {
    expect(await take('a', 'e1')).toEqual(['taken']);
    expect(await redis.admin.hgetall(meta)).toMatchObject({ schema: '1', seq: '1' });
    expect(await take('a', 'e1')).toEqual(['taken']);
    expect(await changes()).toEqual(['node']);
    expect(await take('a', 'e2', 1, 'e1')).toEqual(['taken']);
    expect(await redis.admin.smembers(garbage)).toEqual(['a e1']);
    await wait(5);
    expect(await take('a', 'x1')).toEqual(['taken']);
    expect(await redis.admin.hget(nodes, 'a')).toBe('x1 7 {"r":1}');
    expect(await redis.admin.hget(digests, 'a')).toBe('7');
    expect(await changes()).toEqual(['node', 'node', 'node']);
  });

  test('{"held", end of lease, ms left}: another epoch lives', async () => {
    await take('a', 'e1');
    const [verdict, ends, left] = texts(await take('a', 'x1'));
    expect(verdict).toBe('held');
    expect(ends).toBe(await redis.admin.zscore(leases, 'a'));
    expect(Number(left)).toBeGreaterThan(0);
    expect(Number(left)).toBeLessThanOrEqual(LEASE_MS);
  });

  test('begins a new incarnation above the old one when the directory is gone', async () => {
    await redis.admin.xadd(feed, '9999999999999-5', 'type', 'old');
    expect(await take('a', 'e1')).toEqual(['taken']);
    expect(await changes()).toEqual(['node']);
  });
});

describe('renew-lease.lua', () => {
  test('{"renewed", …}: with the digests, late leases and an epoch that is over', async () => {
    await take('a', 'e1');
    await take('b', 'e1', 1);
    await take('c', 'e1');
    await take('c', 'e2', LEASE_MS, 'e1');
    await redis.admin.hset(nodes, 'd', 'e1 7 {}');
    await wait(5);
    const late = await redis.admin.zscore(leases, 'b');
    expect(await renew('a', 'e1')).toEqual([
      'renewed',
      await redis.admin.hget(meta, 'incarnation'),
      '4',
      expect.arrayContaining(['a', '7', 'b', 'c']),
      ['b', late, 'd', '0'],
      ['c e1'],
    ]);
  });

  test('{"renewed", …}: a lease that ran out and was not removed', async () => {
    await take('a', 'e1', 1);
    await wait(5);
    expect(await renew('a', 'e1')).toEqual([
      'renewed',
      expect.any(String),
      '1',
      ['a', '7'],
      [],
      [],
    ]);
  });

  test('moves the lease with every renewal, also with several in a millisecond', async () => {
    await take('a', 'e1');
    await renew('a', 'e1');
    const ends = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const renewed = renew('a', 'e1');
        const end = await client.call('ZSCORE', [leases, 'a']);
        await renewed;
        return end;
      }),
    );
    expect(ends.filter((end, i) => end === ends[i - 1])).toEqual([]);
  });

  test('{"lease-lost"}: removed, taken by another epoch, or the directory is gone', async () => {
    expect(await renew('a', 'e1')).toEqual(['lease-lost']);
    await take('a', 'e2');
    expect(await renew('a', 'e1')).toEqual(['lease-lost']);
    await redis.admin.zrem(leases, 'a');
    expect(await renew('a', 'e2')).toEqual(['lease-lost']);
    await take('a', 'e2');
    await redis.admin.del(meta);
    expect(await renew('a', 'e2')).toEqual(['lease-lost']);
  });
});

describe('describe-node.lua', () => {
  test('"written": record, digest and feed', async () => {
    await take('a', 'e1');
    await claim('a', 'e1', 'k1');
    expect(await describeNode('e1')).toBe('written');
    expect(await redis.admin.hget(nodes, 'a')).toBe('e1 9 {"r":2}');
    expect(await redis.admin.hget(digests, 'a')).toBe('14');
    expect(await changes()).toEqual(['node', 'rows', 'node']);
  });

  test('"lease-lost": another epoch, or none', async () => {
    expect(await describeNode('e1')).toBe('lease-lost');
    await take('a', 'e2');
    expect(await describeNode('e1')).toBe('lease-lost');
  });
});

describe('leave.lua', () => {
  test('"left": nothing of the node stays but its garbage', async () => {
    await take('a', 'e1');
    expect(await leave('e1')).toBe('left');
    expect(await redis.admin.exists(leases, nodes, digests)).toBe(0);
    expect(await redis.admin.smembers(garbage)).toEqual(['a e1']);
    expect(await changes()).toEqual(['node', 'node-gone']);
  });

  test('"lease-lost": the lease is another epoch’s', async () => {
    await take('a', 'e2');
    expect(await leave('e1')).toBe('lease-lost');
    expect(await redis.admin.zcard(leases)).toBe(1);
  });
});

describe('challenge-node.lua', () => {
  test('{"challenged", end of its lease} and {"gone"}', async () => {
    expect(await challenge()).toEqual(['gone']);
    await take('a', 'e1');
    expect(await challenge()).toEqual(['challenged', await redis.admin.zscore(leases, 'a')]);
    expect(await changes()).toEqual(['node', 'challenge']);
  });
});

describe('remove-nodes.lua', () => {
  test('counts those removed, and passes over those that renewed, are gone, or have another lease', async () => {
    await take('a', 'e1');
    await take('b', 'e1');
    await redis.admin.hset(nodes, 'c', 'e1 7 {}');
    const [a, b] = await redis.admin.zmscore(leases, 'a', 'b');
    await redis.admin.zadd(leases, Number(b) + 1, 'b');
    expect(await remove('expired', 'a', String(a), 'b', String(b), 'c', '0', 'nobody', '0')).toBe(
      2,
    );
    expect(await redis.admin.hkeys(nodes)).toEqual(['b']);
    expect((await redis.admin.smembers(garbage)).toSorted()).toEqual(['a e1', 'c e1']);
    expect(await changes()).toEqual(['node', 'node', 'node-gone', 'node-gone']);
    expect(await remove('expelled', 'a', String(a))).toBe(0);
  });
});

describe('claim-listener.lua', () => {
  test('"claimed": row, quota, digest and feed; again without effect', async () => {
    await take('a', 'e1');
    expect(await claim('a', 'e1', 'k1')).toBe('claimed');
    expect(await claim('a', 'e1', 'k1')).toBe('claimed');
    expect(await redis.admin.hgetall(KEYS.rows('a', 'e1'))).toEqual({ k1: '5 ["n","h"]' });
    expect(await redis.admin.hgetall(KEYS.listeners('n', 'h'))).toEqual({ k1: 'a e1' });
    expect(await redis.admin.hget(digests, 'a')).toBe('12');
    expect(await changes()).toEqual(['node', 'rows']);
  });

  test('"quota-reached": counts live rows only', async () => {
    await take('a', 'e1');
    await take('b', 'e1', 30);
    expect(await claim('b', 'e1', 'k1', 1)).toBe('claimed');
    expect(await claim('a', 'e1', 'k2', 1)).toBe('quota-reached');
    await wait(40);
    expect(await claim('a', 'e1', 'k2', 1)).toBe('claimed');
    await take('a', 'e2', LEASE_MS, 'e1');
    expect(await claim('a', 'e2', 'k3', 1)).toBe('claimed');
    expect(await claim('a', 'e2', 'k4', 1)).toBe('quota-reached');
  });

  test('"lease-lost": another epoch, or none', async () => {
    expect(await claim('a', 'e1', 'k1')).toBe('lease-lost');
    await take('a', 'e2');
    expect(await claim('a', 'e1', 'k1')).toBe('lease-lost');
    expect(await redis.admin.exists(KEYS.listeners('n', 'h'))).toBe(0);
  });
});

describe('write-listeners.lua and release-listeners.lua', () => {
  const LARGEST = 2 ** 48 - 1;

  test('"written" and "released": digests stay exact with the largest parts, a hundred at a time', async () => {
    await take('a', 'e1');
    const rows = Array.from({ length: 100 }, (_, i) => [`k${i}`, LARGEST - i] as const);
    expect(await write('a', 'e1', rows)).toBe('written');
    const sum = rows.reduce((total, [, part]) => (total + BigInt(part)) % BigInt(2 ** 48), 7n);
    expect(await redis.admin.hget(digests, 'a')).toBe(String(sum));
    expect(await write('a', 'e1', rows)).toBe('written');
    expect(await redis.admin.hget(digests, 'a')).toBe(String(sum));
    expect(
      await release(
        'a',
        'e1',
        rows.map(([key]) => key),
      ),
    ).toBe('released');
    expect(await redis.admin.hget(digests, 'a')).toBe('7');
    expect(await redis.admin.exists(KEYS.rows('a', 'e1'), KEYS.listeners('n', 'h'))).toBe(0);
    expect(await changes()).toEqual(['node', 'rows', 'rows', 'released']);
  });

  test('"released": what is not there is passed over, and another’s row of that key stays', async () => {
    await take('a', 'e1');
    await take('b', 'e1');
    await claim('b', 'e1', 'k1');
    expect(await release('a', 'e1', ['k1', 'k2'])).toBe('released');
    expect(await redis.admin.hgetall(KEYS.listeners('n', 'h'))).toEqual({ k1: 'b e1' });
    expect(await changes()).toEqual(['node', 'node', 'rows']);
  });

  test('"lease-lost": another epoch, or none', async () => {
    expect(await write('a', 'e1', [['k1', 1]])).toBe('lease-lost');
    expect(await release('a', 'e1', ['k1'])).toBe('lease-lost');
    await take('a', 'e2');
    expect(await write('a', 'e1', [['k1', 1]])).toBe('lease-lost');
    expect(await release('a', 'e1', ['k1'])).toBe('lease-lost');
  });
});

describe('read-state.lua', () => {
  test('{incarnation, seq, nodes, digests, leases}, and {} without a directory', async () => {
    expect(await state()).toEqual([]);
    await take('a', 'e1');
    expect(await state()).toEqual([
      await redis.admin.hget(meta, 'incarnation'),
      '1',
      ['a', 'e1 7 {"r":1}'],
      ['a', '7'],
      ['a', await redis.admin.zscore(leases, 'a')],
    ]);
  });
});

describe('collect-garbage.lua', () => {
  test('counts what is left, spares rows that were registered again, and ends the garbage', async () => {
    await take('a', 'e1');
    await claim('a', 'e1', 'k1');
    await claim('a', 'e1', 'k2');
    await take('a', 'e2', LEASE_MS, 'e1');
    await write('a', 'e2', [['k1', 5]]);
    const place = KEYS.listeners('n', 'h');
    const collect = async (key: string) =>
      scripts.collectGarbage([garbage, KEYS.rows('a', 'e1'), place], ['a e1', key]);
    expect(await collect('k1')).toBe(1);
    expect(await redis.admin.smembers(garbage)).toEqual(['a e1']);
    expect(await collect('k2')).toBe(0);
    expect(await redis.admin.hgetall(place)).toEqual({ k1: 'a e2' });
    expect(await redis.admin.exists(garbage, KEYS.rows('a', 'e1'))).toBe(0);
  });
});

test('scripts run again after Redis has forgotten them', async () => {
  await take('a', 'e1');
  await redis.admin.script('FLUSH');
  expect(await renew('a', 'e1')).toMatchObject({ 0: 'renewed' });
});

test('the feed is trimmed', async () => {
  await take('a', 'e1');
  const trimmed = [meta, nodes, digests, feed, KEYS.rows('a', 'e1'), KEYS.listeners('n', 'h')];
  for (let i = 0; i < 500; i += 1) {
    await scripts.writeListeners(trimmed, ['a', 'e1', '[]', 50, 'k', 1, '["n","h"]']);
  }
  expect(await redis.admin.xlen(feed)).toBeLessThan(300);
});
