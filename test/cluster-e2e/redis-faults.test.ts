// Redis is away, slow, empty or another: real processes and real Redis.
import { afterEach, describe, expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import {
  startProcesses,
  type NodeProcess,
  type ProcessCluster,
} from '../support/cluster-processes.ts';
import { connecting, requesting, talking, untilKnown } from '../support/cluster-watch.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { startRedis, startSentinel } from '../support/redis.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

/** Longer than a lease. `HALFWAY_TEST_REDIS_AWAY_MS=60000` for the whole minute of the specification. */
const AWAY_MS = Number(process.env['HALFWAY_TEST_REDIS_AWAY_MS'] ?? 20_000);
/** How long all may take to agree again. */
const CONSISTENT_MS = 10_000;
const SETTINGS = ['--maxmemory-policy', 'noeviction'];

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});
function keep<Kept extends AsyncDisposable>(one: Kept): Kept {
  open.push(one);
  return one;
}

function three({ nodes }: ProcessCluster): readonly [NodeProcess, NodeProcess, NodeProcess] {
  const [a, b, c] = nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  return [a, b, c];
}

async function untilAllKnow(cluster: ProcessCluster, listeners: number): Promise<void> {
  for (const node of cluster.nodes) await untilKnown(node, listeners, CONSISTENT_MS);
}

async function readiness(node: NodeProcess): Promise<{ status: number; reasons: string }> {
  const answer = await fetch(`${node.relay.adminUrl}/readyz`);
  return { status: answer.status, reasons: await answer.text() };
}

describe.each(['killed, and empty when it returns', 'frozen, and whole when it goes on'] as const)(
  'Redis, %s',
  kind => {
    test(
      'longer than a lease: no pair breaks, no connect to a known listener fails, new listeners are found afterwards',
      { timeout: AWAY_MS + 60_000 },
      async () => {
        const redis = keep(await startRedis(SETTINGS));
        const cluster = keep(await startProcesses({ redisUrl: redis.url }));
        const [first, second, third] = three(cluster);
        keep(new StayingListener(first.relay));
        keep(new StayingListener(second.relay));
        await untilAllKnow(cluster, 2);
        const { socket: sender } = await dialSender(third.relay).answer;
        if (sender === undefined) throw new Error('The sender was refused');
        const pair = talking(sender);
        const connects = [first, second, third].map(node => connecting(node.relay));
        const requests = requesting(third.relay);

        const awayAtMs = performance.now();
        if (kind.startsWith('killed')) await redis.kill();
        else redis.freeze();
        for (const node of cluster.nodes) {
          await until(
            `${node.nodeId} says that Redis is away, and stays ready`,
            async () => {
              const { status, reasons } = await readiness(node);
              return status === 200 && reasons.includes('coordinator-away');
            },
            15_000,
          );
        }
        const noticedMs = performance.now() - awayAtMs;
        const late = keep(new StayingListener(second.relay, { path: 'a' }));
        await until('a listener comes in meanwhile', () => late.isListening, 10_000);
        expect((await dialSender(second.relay, 'a').answer).status).toBe(101);
        await until('the time is over', () => performance.now() - awayAtMs > AWAY_MS, AWAY_MS);

        const backAtMs = performance.now();
        if (kind.startsWith('killed')) await redis.start();
        else redis.thaw();
        await untilAllKnow(cluster, 3);
        const consistentMs = performance.now() - backAtMs;
        expect((await dialSender(third.relay, 'a').answer).status).toBe(101);
        await until('all are well', async () => {
          const all = await Promise.all(cluster.nodes.map(readiness));
          return all.every(({ reasons }) => !reasons.includes('degraded: c'));
        });

        const said = await pair.stop();
        expect(new Set(said)).toEqual(new Set(['same']));
        const statuses = (await Promise.all(connects.map(one => one.stop()))).flat();
        expect(new Set(statuses)).toEqual(new Set([101]));
        const answers = await requests.stop();
        expect(new Set(answers)).toEqual(new Set([200]));
        console.log(
          `Redis ${kind}: noticed after ${Math.round(noticedMs)} ms, consistent ` +
            `${Math.round(consistentMs)} ms after its return; ${said.length} messages, ` +
            `${statuses.length} connects, ${answers.length} requests`,
        );
      },
    );
  },
);

test(
  'a node that is late in a Redis that came back empty: its listeners are asked all the same',
  { timeout: 60_000 },
  async () => {
    const redis = keep(await startRedis(SETTINGS));
    const line = keep(await startFaultProxy(redis.port));
    const cluster = keep(
      await startProcesses({
        redisUrl: redis.url,
        optionsOf: async nodeId =>
          nodeId === 'node-a' ? { redis: `redis://127.0.0.1:${line.port}` } : {},
      }),
    );
    const [late, second, third] = three(cluster);
    keep(new StayingListener(late.relay));
    await untilAllKnow(cluster, 1);
    line.refuse(true);
    line.cut();
    await redis.kill();
    await redis.start();
    await second.said('"reason":"missing"', 20_000);
    for (const node of [second, third]) {
      const { status, socket } = await dialSender(node.relay).answer;
      expect(status).toBe(101);
      socket?.send('hello');
      expect(await socket?.nextText()).toBe('hello');
    }
    line.refuse(false);
    await untilAllKnow(cluster, 1);
    expect((await dialSender(second.relay).answer).status).toBe(101);
  },
);

test(
  'a node that dies while Redis is away is taken for dead soon after its return',
  { timeout: 60_000 },
  async () => {
    const redis = keep(await startRedis(SETTINGS));
    const cluster = keep(await startProcesses({ redisUrl: redis.url }));
    const [first, second, third] = three(cluster);
    const lost = keep(new StayingListener(second.relay));
    await untilAllKnow(cluster, 1);
    redis.freeze();
    for (const node of cluster.nodes) await node.said('"coordinator-away"', 15_000);
    await lost[Symbol.asyncDispose]();
    keep(new StayingListener(second.relay, { path: 'a' }));
    await untilAllKnow(cluster, 1);
    await second.kill();
    redis.thaw();
    const backAtMs = performance.now();
    for (const node of [first, third]) {
      await until(
        `${node.nodeId} knows one other node`,
        async () => (await node.relay.metric('halfway_cluster_nodes')) === 2,
        CONSISTENT_MS,
      );
      await untilKnown(node, 0);
    }
    console.log(`taken for dead ${Math.round(performance.now() - backAtMs)} ms after its return`);
  },
);

test('Redis that is slow costs time where listeners come, and none where senders do', async () => {
  const redis = keep(await startRedis(SETTINGS));
  const proxy = keep(await startFaultProxy(redis.port));
  const cluster = keep(await startProcesses({ redisUrl: `redis://127.0.0.1:${proxy.port}` }));
  const [first, second, third] = three(cluster);
  keep(new StayingListener(first.relay));
  await untilAllKnow(cluster, 1);
  const delayMs = 300;
  proxy.delay(delayMs);
  const connects = connecting(third.relay);
  const startedAtMs = performance.now();
  const slow = keep(new StayingListener(second.relay, { path: 'a' }));
  await until('it listens', () => slow.isListening);
  expect(performance.now() - startedAtMs).toBeGreaterThan(delayMs);
  await until('the others know it', async () => {
    const { status, socket } = await dialSender(third.relay, 'a').answer;
    await socket?.reset();
    return status === 101;
  });
  const tookMs = performance.now() - startedAtMs;
  const statuses = await connects.stop();
  expect(new Set(statuses)).toEqual(new Set([101]));
  // Were each to wait for Redis, there could be no more than this.
  expect(statuses.length).toBeGreaterThan((tookMs / delayMs) * 2);
});

test(
  'a Sentinel fails over: live listeners stay known, new ones become so',
  { timeout: 60_000 },
  async () => {
    const sentinel = keep(await startSentinel());
    const cluster = keep(await startProcesses({ redisUrl: sentinel.url }));
    const [first, second, third] = three(cluster);
    keep(new StayingListener(first.relay));
    await untilAllKnow(cluster, 1);
    const connects = connecting(third.relay);
    const killedAtMs = performance.now();
    await sentinel.master.kill();
    await until(
      'the replica is master',
      async () => (await sentinel.replica.admin.info('replication')).includes('role:master'),
      15_000,
    );
    const late = keep(new StayingListener(second.relay, { path: 'a' }));
    await until('a listener comes in', () => late.isListening, 10_000);
    for (const node of cluster.nodes) await untilKnown(node, 2, 20_000);
    console.log(`Sentinel: consistent ${Math.round(performance.now() - killedAtMs)} ms after`);
    expect((await dialSender(third.relay, 'a').answer).status).toBe(101);
    expect(new Set(await connects.stop())).toEqual(new Set([101]));
  },
);

describe('a node refuses to start', () => {
  test('with the id of a live one, and says so', { timeout: 60_000 }, async () => {
    const redis = keep(await startRedis(SETTINGS));
    const cluster = keep(
      await startProcesses({ redisUrl: redis.url, nodeIds: ['node-a', 'node-b'] }),
    );
    const twin = await cluster.add('node-a');
    await expect(twin.start()).rejects.toThrow(/Another live node has the id .{0,2}node-a/);
    expect(twin.isRunning).toBe(false);
    await untilAllKnow({ ...cluster, nodes: cluster.nodes.slice(0, 2) }, 0);
  });

  test('where other data lies under its keys', async () => {
    const redis = keep(await startRedis(SETTINGS));
    const empty = keep(await startProcesses({ redisUrl: redis.url, nodeIds: ['node-a'] }));
    const keys = await redis.admin.keys('*');
    await empty.nodes[0]?.kill();
    await redis.admin.flushall();
    for (const key of keys) await redis.admin.set(key, 'somebody else’s');
    const node = await empty.add('node-b');
    await expect(node.start()).rejects.toThrow(/has ended/);
    expect(node.lines.join('\n')).toMatch(/give this cluster another key prefix/);
  });
});
