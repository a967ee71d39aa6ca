import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeDispatchStore } from '../conformance/dispatch-store.ts';
import { openDispatchNodes } from '../support/dispatch-nodes.ts';
import { startRedisCluster } from '../support/redis.ts';

let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
let prefixes = 0;
beforeAll(async () => {
  cluster = await startRedisCluster();
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

async function open() {
  prefixes += 1;
  return openDispatchNodes({ url: cluster.url, keyPrefix: `tests${prefixes}` });
}

describeDispatchStore('RedisDispatchStore on a Redis Cluster', open, { historiesMax: 30 });

describe('RedisDispatchStore on a Redis Cluster', () => {
  test('spreads partitions over its nodes, each of them on one', async () => {
    await using it = await open();
    for (let i = 0; i < 30; i += 1) {
      const outcome = await it.store.step(`environment${i}`, {
        conditions: [],
        puts: ['a', 'b'].map(id => ({ key: { kind: 'run', id }, text: '{}' })),
        adds: [{ index: 'q', member: 'a', score: 1 }],
        appends: [{ log: 'events', text: 'x', keep: 9 }],
      });
      expect(outcome).toEqual({ type: 'done' });
    }
    const pattern = `{tests${prefixes}/*`;
    for (const { admin } of cluster.nodes) {
      const keys = await admin.keys(pattern);
      expect(keys.length).toBeGreaterThan(0);
      expect(keys.length % 4).toBe(0);
    }
  });

  test('says that it cannot be asked to wait for the disk', async () => {
    for (const { admin } of cluster.nodes) await admin.config('SET', 'appendonly', 'yes');
    await using it = await open();
    expect(await it.store.askDurability()).toContain('a Redis Cluster cannot be asked');
    for (const { admin } of cluster.nodes) await admin.config('SET', 'appendfsync', 'always');
    await using later = await open();
    expect(await later.store.askDurability()).toBe('');
  });
});
