// Listeners that come and go while Redis is away: real processes, real Redis, Microsoft's package as sender.
import { once } from 'node:events';
import HycoWs from 'hyco-ws';
import { afterEach, expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import {
  startProcesses,
  type NodeProcess,
  type ProcessCluster,
} from '../support/cluster-processes.ts';
import { Traffic, untilKnown } from '../support/cluster-watch.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { send } from '../support/http-sender.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until, within } from '../support/within.ts';

/** How soon others know of a listener that came or went. */
const SOON_MS = 1_000;
/** How long all may take to agree again. */
const CONSISTENT_MS = 10_000;
/** A lease, the time that others take to notice its end, and for how long they linger. */
const FORGOTTEN_MS = 15_000 + 5_000 + 10_000;
const SETTINGS = ['--maxmemory-policy', 'noeviction'];

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});
function keep<Kept extends AsyncDisposable>(one: Kept): Kept {
  open.push(one);
  return one;
}

function firstTwo({ nodes }: ProcessCluster): readonly [NodeProcess, NodeProcess] {
  const [a, b] = nodes;
  if (a === undefined || b === undefined) throw new Error('two nodes');
  return [a, b];
}

async function listening(node: NodeProcess, path: string): Promise<StayingListener> {
  const listener = keep(new StayingListener(node.relay, { path }));
  await until('it listens', () => listener.isListening, CONSISTENT_MS);
  return listener;
}

/** A WebSocket and a request reach the listener from this node; how long that took both. */
async function reach({ relay }: NodeProcess, path: string): Promise<number> {
  const startedAtMs = performance.now();
  const answer = send(relay, `/${path}`);
  const sender = HycoWs.relayedConnect(
    `${relay.wsUrl}/$hc/${path}?sb-hc-action=connect`,
    relay.token(path),
  );
  await within('a sender reaches the listener', once(sender, 'open'));
  sender.send('hello');
  const [echo] = await within('an echo', once(sender, 'message'));
  sender.close();
  expect(String(echo)).toBe('hello');
  expect((await answer).body.toString()).toBe(path);
  return performance.now() - startedAtMs;
}

/** Nobody listens, and that is said at once: whoever was offered to a listener that is gone would wait longer. */
async function expectNobody({ relay }: NodeProcess, path: string): Promise<void> {
  const startedAtMs = performance.now();
  const answers = await Promise.all([dialSender(relay, path).answer, send(relay, `/${path}`)]);
  expect(answers.map(({ status }) => status)).toEqual([404, 404]);
  expect(performance.now() - startedAtMs).toBeLessThan(2 * SOON_MS);
}

async function untilAway(...nodes: readonly NodeProcess[]): Promise<void> {
  for (const { nodeId, relay } of nodes) {
    await until(
      `${nodeId} says that Redis is away, and stays ready`,
      async () => {
        const answer = await fetch(`${relay.adminUrl}/readyz`);
        return answer.status === 200 && (await answer.text()).includes('coordinator-away');
      },
      15_000,
    );
  }
}

/** All know the same listeners, each once and from Redis. */
async function untilConsistent(
  { nodes }: ProcessCluster,
  redis: TestRedis,
  paths: readonly string[],
): Promise<void> {
  for (const node of nodes) {
    await untilKnown(node, paths.length, CONSISTENT_MS);
    await until(`${node.nodeId} is well`, async () => {
      const answer = await (await fetch(`${node.relay.adminUrl}/readyz`)).text();
      const announced = await node.relay.metric('halfway_cluster_listeners_announced');
      return !answer.includes('degraded: c') && announced === 0;
    });
  }
  for (const path of new Set(paths)) {
    const [key = ''] = await redis.admin.keys(`*:listeners:*/${path}`);
    expect(await redis.admin.hlen(key)).toBe(paths.filter(one => one === path).length);
  }
}

test.each(['killed, and empty when it returns', 'frozen, and whole when it goes on'] as const)(
  'Redis, %s: who comes or goes on one node is known to the other at once',
  { timeout: 90_000 },
  async kind => {
    const redis = keep(await startRedis(SETTINGS));
    const nodeIds = ['node-a', 'node-b'];
    const cluster = keep(await startProcesses({ redisUrl: redis.url, nodeIds }));
    const [a, b] = firstTwo(cluster);
    const early = await listening(a, 'hyco');
    await untilKnown(b, 1);
    await reach(b, 'hyco');

    if (kind.startsWith('killed')) await redis.kill();
    else redis.freeze();
    await untilAway(a, b);
    const late = await listening(a, 'a');
    const reachedMs = await reach(b, 'a');
    expect(reachedMs).toBeLessThan(SOON_MS);
    await late[Symbol.asyncDispose]();
    await untilKnown(b, 1);
    await expectNobody(b, 'a');
    await early[Symbol.asyncDispose]();
    await untilKnown(b, 0);
    await expectNobody(b, 'hyco');
    await listening(a, 'hyco');
    await listening(b, 'hyco');
    await listening(a, 'a');
    await reach(b, 'a');

    const backAtMs = performance.now();
    if (kind.startsWith('killed')) await redis.start();
    else redis.thaw();
    const reaching = new Traffic(async () => reach(b, 'a'));
    await untilConsistent(cluster, redis, ['hyco', 'hyco', 'a']);
    const { length: reached } = await reaching.stop();
    console.log(
      `Redis ${kind}: reached after ${Math.round(reachedMs)} ms, consistent ` +
        `${Math.round(performance.now() - backAtMs)} ms after its return, ${reached} senders meanwhile`,
    );
    for (const path of ['hyco', 'a']) await reach(b, path);
  },
);

test(
  'Redis away for one node only: it and the others know of who comes, and reach all, for as long as it lasts',
  { timeout: 120_000 },
  async () => {
    const redis = keep(await startRedis(SETTINGS));
    const line = keep(await startFaultProxy(redis.port));
    const cluster = keep(
      await startProcesses({
        redisUrl: redis.url,
        nodeIds: ['node-a', 'node-b'],
        optionsOf: async nodeId =>
          nodeId === 'node-a' ? { redis: `redis://127.0.0.1:${line.port}` } : {},
      }),
    );
    const [a, b] = firstTwo(cluster);
    await listening(a, 'hyco');
    await untilKnown(b, 1);
    line.refuse(true);
    line.cut();
    await untilAway(a);
    await listening(a, 'a');
    await listening(b, 'open');
    const cutAtMs = performance.now();
    while (performance.now() - cutAtMs < FORGOTTEN_MS) {
      for (const path of ['hyco', 'a']) await reach(b, path);
      await reach(a, 'open');
      // Others use this machine too.
      await new Promise(resolve => void setTimeout(resolve, 200));
    }
    line.refuse(false);
    await untilConsistent(cluster, redis, ['hyco', 'a', 'open']);
    for (const path of ['hyco', 'a']) await reach(b, path);
    await reach(a, 'open');
  },
);
