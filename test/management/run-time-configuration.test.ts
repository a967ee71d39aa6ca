import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import {
  RunTimeConfiguration,
  type Decision,
} from '../../src/management/run-time-configuration.ts';
import { openRedis, type RedisClient } from '../../src/redis/client.ts';
import { parseRedisUrl } from '../../src/redis/redis-url.ts';
import { NamespaceTable } from '../../src/relay/namespaces.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import { recordKey, type RelayRecord } from '../../src/store/records.ts';
import { RedisStore } from '../../src/store/redis-store.ts';
import { StoreError, type RelayStore, type WriteOutcome } from '../../src/store/relay-store.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { MemoryLog, NAMESPACE } from '../support/relay.ts';
import { until } from '../support/within.ts';

const MAX = 100;

function aRecord(name: string, createdAtMs = 1): RelayRecord {
  const written = { createdAtMs, updatedAtMs: createdAtMs, revision: `r${createdAtMs}` };
  return {
    namespace: 'tests',
    hybridConnection: {
      name,
      requiresClientAuthorization: true,
      userMetadata: '',
      ...written,
    },
    rules: [],
  };
}

const put = (record: RelayRecord) => (): Decision<never> => ({ put: record });

interface Node extends Disposable {
  readonly table: NamespaceTable;
  readonly log: MemoryLog;
  readonly configuration: RunTimeConfiguration;
  serves(name: string): boolean;
}

async function startNode(store: RelayStore, clock = systemClock): Promise<Node> {
  const table = new NamespaceTable([NAMESPACE], 0);
  const log = new MemoryLog();
  const configuration = new RunTimeConfiguration({
    store,
    namespaces: table,
    clock,
    log,
    reportBug: bug => {
      throw new Error('a bug of ours', { cause: bug });
    },
  });
  await configuration.start();
  return {
    table,
    log,
    configuration,
    serves: name => table.named('tests')?.named(name) !== undefined,
    [Symbol.dispose]: () => configuration.stop(),
  };
}

describe('RunTimeConfiguration', () => {
  test('start() serves what is stored, but not in place of the config file, and warns', async () => {
    const store = new MemoryStore(systemClock);
    const guard = { expectedVersion: 0, hybridConnectionsMax: MAX };
    const rule = { name: 'ROOT', rights: ['Send'], primaryKey: 'a', secondaryKey: 'b' } as const;
    const written = { createdAtMs: 1, updatedAtMs: 1, revision: 'r' };
    await store.put(aRecord('new'), guard);
    await store.put(aRecord('hyco'), guard);
    await store.put({ ...aRecord('lost'), namespace: 'other' }, guard);
    await store.put({ namespace: 'tests', rules: [{ ...rule, ...written }] }, guard);
    using node = await startNode(store);
    expect(node.serves('new')).toBe(true);
    const namespace = node.table.named('tests');
    expect(namespace?.named('hyco')?.origin).toBe('config-file');
    expect(namespace?.rules).toEqual(NAMESPACE.authorizationRules);
    const warnings = node.log.lines.filter(line => line.includes('"warn"')).join('\n');
    expect(warnings).toContain('tests/hyco');
    expect(warnings).toContain('other/lost');
    expect(warnings).toContain('ROOT');
  });

  test('write() resolves when it is served here', async () => {
    using node = await startNode(new MemoryStore(systemClock));
    const key = recordKey('tests', 'x1');
    expect(await node.configuration.write(key, MAX, put(aRecord('x1')))).toBe('written');
    expect(node.serves('x1')).toBe(true);
    await node.configuration.write(key, MAX, () => ({ delete: true }));
    expect(node.serves('x1')).toBe(false);
  });

  test.each([
    [2, 'written', 3],
    [1_000, 'contended', 5],
  ])(
    'write() decides again when another was faster: %i times is %s',
    async (rivals, outcome, decided) => {
      const store = new MemoryStore(systemClock);
      using node = await startNode(store);
      const original = store.put.bind(store);
      let left = rivals;
      store.put = async (record, guard): Promise<WriteOutcome> => {
        left -= 1;
        if (left >= 0) await original(aRecord('x1', 100 + left), guard);
        return original(record, guard);
      };
      let decisions = 0;
      const write = node.configuration.write(recordKey('tests', 'x1'), MAX, () => {
        decisions += 1;
        return { put: aRecord('x1', 7) };
      });
      expect(await write).toBe(outcome);
      expect(decisions).toBe(decided);
      const served = node.table.named('tests')?.named('x1');
      expect(served?.createdAtMs === 7).toBe(outcome === 'written');
    },
  );

  test('write() hands back a refusal, and a full store', async () => {
    using node = await startNode(new MemoryStore(systemClock));
    const key = recordKey('tests', 'x1');
    expect(await node.configuration.write(key, MAX, () => ({ refused: 'no' }))).toEqual({
      refused: 'no',
    });
    expect(await node.configuration.write(key, 0, put(aRecord('x1')))).toBe('full');
  });

  test('goes on with what it knows while the store is away, says so, and catches up', async () => {
    const clock = new FakeClock();
    const store = new MemoryStore(clock);
    const original = store.changesAfter.bind(store);
    using node = await startNode(store, clock);
    await node.configuration.write(recordKey('tests', 'x1'), MAX, put(aRecord('x1')));
    store.changesAfter = () => Promise.reject(new StoreError('Redis is away'));
    const guard = { expectedVersion: 0, hybridConnectionsMax: MAX };
    await store.put(aRecord('x2'), guard);
    await until('it is away', () => node.configuration.fault === 'Redis is away');
    await store.put(aRecord('x3'), guard);
    expect([node.serves('x1'), node.serves('x3')]).toEqual([true, false]);
    store.changesAfter = original;
    await until('it is back', () => {
      clock.advance(2_000);
      return node.serves('x3') && node.configuration.fault === undefined;
    });
  });
});

async function clientOf(redis: TestRedis): Promise<RedisClient> {
  const parsed = parseRedisUrl(redis.url);
  if ('fault' in parsed) throw new Error(parsed.fault);
  const client = openRedis({
    target: parsed.target,
    clock: systemClock,
    connectionName: 'tests',
    commandTimeoutMs: 2_000,
    blockingMsMax: 12_000,
  });
  if (!(await client.untilUp(5_000))) throw new Error('Redis is not up');
  return client;
}

interface RedisNode extends Node {
  readonly clients: readonly RedisClient[];
}

async function startRedisNode(redis: TestRedis): Promise<RedisNode> {
  const [commands, feed] = await Promise.all([clientOf(redis), clientOf(redis)]);
  const node = await startNode(new RedisStore({ commands, feed, keyPrefix: 'tests' }));
  return {
    ...node,
    clients: [commands, feed],
    [Symbol.dispose]: () => {
      node.configuration.stop();
      commands.close();
      feed.close();
    },
  };
}

/** One more than it was, as a time of creation. */
function counted(current: RelayRecord | undefined): Decision<never> {
  return { put: aRecord('x1', (current?.hybridConnection?.createdAtMs ?? 0) + 1) };
}

describe('RunTimeConfiguration on Redis', () => {
  test('every node serves what any node wrote', async () => {
    await using redis = await startRedis();
    using one = await startRedisNode(redis);
    using other = await startRedisNode(redis);
    await one.configuration.write(recordKey('tests', 'x1'), MAX, put(aRecord('x1')));
    await until('the other serves it', () => other.serves('x1'));
    await other.configuration.write(recordKey('tests', 'x1'), MAX, () => ({ delete: true }));
    await until('it is gone', () => !one.serves('x1'));
    using late = await startRedisNode(redis);
    expect(late.serves('x1')).toBe(false);
  });

  test('many writers on two nodes lose no change', async () => {
    await using redis = await startRedis();
    using one = await startRedisNode(redis);
    using other = await startRedisNode(redis);
    const key = recordKey('tests', 'x1');
    for (let i = 0; i < 10; i += 1) {
      const outcomes = await Promise.all(
        [one, other].map(node => node.configuration.write(key, MAX, counted)),
      );
      expect(outcomes).toEqual(['written', 'written']);
    }
    await until('both have all', () =>
      [one, other].every(
        node => node.configuration.recordAt(key)?.hybridConnection?.createdAtMs === 20,
      ),
    );
  });

  test('a Redis that comes back empty gets the records back, and nothing ends', async () => {
    await using redis = await startRedis();
    using one = await startRedisNode(redis);
    using other = await startRedisNode(redis);
    await one.configuration.write(recordKey('tests', 'x1'), MAX, put(aRecord('x1')));
    await until('the other serves it', () => other.serves('x1'));
    const served = one.table.named('tests')?.named('x1');
    await redis.kill();
    await until('it is missed', () => one.configuration.fault !== undefined);
    await expect(
      one.configuration.write(recordKey('tests', 'x2'), MAX, put(aRecord('x2'))),
    ).rejects.toThrow(StoreError);
    await redis.start();
    await until(
      'all is well',
      () => one.configuration.fault === undefined && other.configuration.fault === undefined,
      15_000,
    );
    expect(one.table.named('tests')?.named('x1')).toBe(served);
    expect(served?.isDeleted).toBe(false);
    await other.configuration.write(recordKey('tests', 'x2'), MAX, put(aRecord('x2')));
    await until('changes go on', () => one.serves('x2'));
    using late = await startRedisNode(redis);
    expect([late.serves('x1'), late.serves('x2')]).toEqual([true, true]);
  });
});
