import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { MISHAPS } from '../support/cutting-proxy.ts';
import {
  MODEL_PATIENCE_MS,
  MODEL_RELAY,
  movingDial,
  pollDial,
  runPollModel,
  seedsOr,
} from '../support/poll-model.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { seeded } from '../support/seeded.ts';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis(['--maxmemory-policy', 'noeviction']);
});
afterAll(async () => redis[Symbol.asyncDispose]());

let started = 0;
let cluster: TestCluster;
/** A cluster for each test: a listener whose DELETE was lost is there until it expires. */
beforeEach(async () => {
  started += 1;
  cluster = await startCluster({
    redisUrl: redis.url,
    redisPrefix: `test-${started}`,
    options: { ...MODEL_RELAY, drainDelayMs: 0, drainTimeoutMs: 1_000 },
  });
  return async () => cluster[Symbol.asyncDispose]();
});

describe.each(seedsOr(1, 2))('with seed %i, each request to a node drawn at random', seed => {
  test(
    'every frame arrives once and in order, whatever happens to requests',
    async () => {
      const { nodes } = cluster;
      const proxy = await runPollModel(seed, { nodes, share: 0.5, dial: pollDial() });
      expect(proxy.done.size).toBeGreaterThan(MISHAPS.length / 2);
    },
    MODEL_PATIENCE_MS * 2,
  );

  test(
    'the same while sessions move to WebSockets at another node, which break, and back',
    async () => {
      const [one] = cluster.nodes;
      if (one === undefined) throw new Error('no node');
      const moving = movingDial(one, seeded(seed + 3));
      await runPollModel(seed, { nodes: cluster.nodes, share: 0.3, dial: moving.dial });
      expect(moving.broken()).toBeGreaterThan(3);
    },
    MODEL_PATIENCE_MS * 2,
  );
});
