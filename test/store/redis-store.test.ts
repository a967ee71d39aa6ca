import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { openRedis, type RedisClient } from '../../src/redis/client.ts';
import { storeKeys } from '../../src/redis/keys.ts';
import { parseRedisUrl } from '../../src/redis/redis-url.ts';
import { RedisStore } from '../../src/store/redis-store.ts';
import { StoreError, type Position, type WriteOutcome } from '../../src/store/relay-store.ts';
import {
  aHybridConnection,
  describeRelayStore,
  describeSpoiledStore,
  type SpoiledStoreUnderTest,
} from '../conformance/relay-store.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { within } from '../support/within.ts';

/** Longest wait of the conformance suite. */
const LONGEST_WAIT_MS = 20_000;
const NEW = { expectedVersion: 0, hybridConnectionsMax: 9 };

let redis: TestRedis;
let prefixes = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

async function client(blockingMsMax = 0): Promise<RedisClient> {
  const parsed = parseRedisUrl(redis.url);
  if ('fault' in parsed) throw new Error(parsed.fault);
  const opened = openRedis({
    target: parsed.target,
    clock: systemClock,
    connectionName: 'tests',
    commandTimeoutMs: 5_000,
    blockingMsMax,
  });
  if (!(await opened.untilUp(5_000))) throw new Error('Redis is not up');
  return opened;
}

interface RedisStoreUnderTest extends SpoiledStoreUnderTest {
  readonly keys: ReturnType<typeof storeKeys>;
}

async function open(): Promise<RedisStoreUnderTest> {
  prefixes += 1;
  const keyPrefix = `tests${prefixes}`;
  const clients = await Promise.all([
    client(),
    client(LONGEST_WAIT_MS),
    client(),
    client(LONGEST_WAIT_MS),
  ]);
  const [commands, feed, otherCommands, otherFeed] = clients;
  const store = new RedisStore({ commands, feed, keyPrefix });
  const other = new RedisStore({ commands: otherCommands, feed: otherFeed, keyPrefix });
  const keys = storeKeys(keyPrefix);
  return {
    store,
    other,
    keys,
    spoil: async key => void (await redis.admin.hset(keys.hybridConnections, key, '1 {}')),
    [Symbol.asyncDispose]: async () => {
      for (const one of clients) one.close();
      return Promise.resolve();
    },
  };
}

describeRelayStore('RedisStore', open);
describeSpoiledStore('RedisStore', open);

function positionOf(outcome: WriteOutcome): Position {
  if (outcome.type !== 'written') throw new Error('Not written');
  return outcome.position;
}

describe('RedisStore', () => {
  test('restore() writes back what an emptied Redis has lost, once', async () => {
    await using it = await open();
    const before = positionOf(await it.store.put(aHybridConnection('a'), NEW));
    await redis.admin.flushall();
    expect(await it.store.changesAfter(before, 1)).toBe('position-lost');
    expect((await it.store.snapshot()).position).toBeUndefined();
    const rules = { namespace: 'tests', rules: [] };
    expect(await it.store.restore([aHybridConnection('a'), rules])).toBe(true);
    expect(await it.other.restore([aHybridConnection('b')])).toBe(false);
    const { position, records } = await it.other.snapshot();
    expect(position?.number).toBe(2);
    expect(records).toContainEqual({ version: 2, record: aHybridConnection('a') });
    expect(records).toContainEqual({ version: 1, record: rules });
    const update = { ...NEW, expectedVersion: 2 };
    const next = positionOf(await it.store.put(aHybridConnection('a', 'x'), update));
    expect(next.number).toBe(3);
  });

  test('changesAfter() notices a history that went on without the last changes', async () => {
    await using it = await open();
    const one = positionOf(await it.store.put(aHybridConnection('a'), NEW));
    const kept = await redis.admin.dumpBuffer(it.keys.meta);
    const two = positionOf(await it.store.put(aHybridConnection('b'), NEW));
    // A replica that took over knows nothing of b.
    await redis.admin.restore(it.keys.meta, 0, kept, 'REPLACE');
    await redis.admin.hdel(it.keys.hybridConnections, 'tests/b');
    await redis.admin.xdel(it.keys.feed, `${two.incarnation}-2`);
    expect(await it.store.changesAfter(two, 1)).toBe('position-lost');
    await redis.admin.del(it.keys.feed);
    const other = positionOf(await it.store.put(aHybridConnection('c'), NEW));
    expect(other.number).toBe(two.number);
    expect(await it.store.changesAfter(two, 1)).toBe('position-lost');
    expect(await it.store.changesAfter(one, 1)).toBe('position-lost');
  });

  test('rejects with StoreError that says what lies under its keys', async () => {
    await using it = await open();
    await redis.admin.set(it.keys.hybridConnections, 'theirs');
    const put = it.store.put(aHybridConnection('a'), NEW);
    await expect(put).rejects.toThrow(StoreError);
    await expect(put).rejects.toThrow(/foreign data.*key prefix/);
  });

  test('rejects with StoreError while Redis is away', async () => {
    const clients = await Promise.all([client(), client()]);
    const store = new RedisStore({ commands: clients[0], feed: clients[1], keyPrefix: 'away' });
    for (const each of clients) each.close();
    await expect(within('the refusal', store.snapshot())).rejects.toThrow(StoreError);
  });
});
