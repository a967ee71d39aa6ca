// Clocks of nodes and of Redis are wrong, apart by minutes, and are put right while all goes on.
import { afterEach, describe, expect, test } from 'vitest';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import {
  startProcesses,
  type NodeProcess,
  type ProcessCluster,
} from '../support/cluster-processes.ts';
import { connecting, requesting, talking, untilKnown } from '../support/cluster-watch.ts';
import { send } from '../support/http-sender.ts';
import { startRedis } from '../support/redis.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';
import { wrongClock, type WrongClock } from '../support/wrong-clock.ts';

const SETTINGS = ['--maxmemory-policy', 'noeviction'];
const LEASE_MS = 15_000;
/** Short enough to wait for, and told apart from a minute. */
const ACCEPT_TIMEOUT_MS = 2_000;
const MINUTE_SEC = 60;
/** What is logged when a node is taken for dead, a lease or a link is lost, or a peer refused. */
const FLAPS = /"(?:NodeGone|LeaseLost|MeshLinkDown|MeshLinkRefused|MeshConnectionRefused)"/;

const open: (AsyncDisposable | Disposable)[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) {
    if (Symbol.asyncDispose in one) await one[Symbol.asyncDispose]();
    else one[Symbol.dispose]();
  }
});
function keep<Kept extends AsyncDisposable | Disposable>(one: Kept): Kept {
  open.push(one);
  return one;
}

interface Started {
  readonly cluster: ProcessCluster;
  /** Right, ahead by a minute, behind by a minute. */
  readonly nodes: readonly [NodeProcess, NodeProcess, NodeProcess];
  readonly ahead: WrongClock;
  readonly behind: WrongClock;
}

async function startApart(redisUrl: string): Promise<Started> {
  const ahead = keep(wrongClock(MINUTE_SEC));
  const behind = keep(wrongClock(-MINUTE_SEC));
  const envOf: Record<string, WrongClock['env']> = { 'node-b': ahead.env, 'node-c': behind.env };
  const cluster = keep(
    await startProcesses({
      redisUrl,
      options: { acceptTimeoutMs: `${ACCEPT_TIMEOUT_MS}`, logLevel: 'info' },
      settingOf: nodeId => ({ env: envOf[nodeId] ?? {} }),
    }),
  );
  const [right, fast, slow] = cluster.nodes;
  if (right === undefined || fast === undefined || slow === undefined) throw new Error('three');
  return { cluster, nodes: [right, fast, slow], ahead, behind };
}

/** Seconds that a node's clock is ahead, by the time of day in its last line of log. */
function aheadSec({ lines }: NodeProcess): number {
  const text = lines.findLast(line => line.includes('"time":')) ?? '{}';
  const said: unknown = JSON.parse(text);
  if (typeof said !== 'object' || said === null || !('time' in said)) return Number.NaN;
  const at = typeof said.time === 'number' ? said.time : Date.parse(String(said.time));
  return Math.round((at - Date.now()) / 1_000);
}

function flaps({ cluster }: Started): string[] {
  return cluster.nodes.flatMap(({ lines }) => lines.filter(line => FLAPS.test(line)));
}

test(
  'nodes apart by two minutes, whose clocks then change places: leases hold, links stand, connects and requests cross',
  { timeout: 90_000 },
  async () => {
    const redis = keep(await startRedis(SETTINGS));
    const started = await startApart(redis.url);
    const { nodes, cluster, ahead, behind } = started;
    const [right, fast, slow] = nodes;
    expect(Math.abs(aheadSec(fast) - MINUTE_SEC)).toBeLessThan(10);
    expect(Math.abs(aheadSec(slow) + MINUTE_SEC)).toBeLessThan(10);
    const startedAtMs = performance.now();
    const listeners = nodes.map(node => keep(new StayingListener(node.relay)));
    for (const node of nodes) await untilKnown(node, 3);
    const { socket } = await dialSender(right.relay).answer;
    if (socket === undefined) throw new Error('The sender was refused');
    const pair = talking(socket);
    const connects = nodes.map(node => connecting(node.relay));
    const requests = nodes.map(node => requesting(node.relay));
    const half = startedAtMs + LEASE_MS / 2;
    await until('half a lease has passed', () => performance.now() > half, LEASE_MS);
    ahead.set(-MINUTE_SEC);
    behind.set(MINUTE_SEC);
    const end = startedAtMs + LEASE_MS * 1.5;
    await until('more than a lease has passed', () => performance.now() > end, LEASE_MS * 2);
    const statuses = (await Promise.all(connects.map(one => one.stop()))).flat();
    expect(new Set(statuses)).toEqual(new Set([101]));
    const answers = (await Promise.all(requests.map(one => one.stop()))).flat();
    expect(new Set(answers)).toEqual(new Set([200]));
    expect(new Set(await pair.stop())).toEqual(new Set(['same']));
    expect(listeners.map(({ listens }) => listens)).toEqual([1, 1, 1]);
    expect(flaps(started)).toEqual([]);
    console.log(`clocks apart: ${statuses.length} connects, ${answers.length} requests`);
    // A node that dies is noticed as ever, and one that starts with a wrong clock finds its place.
    const killedAtMs = performance.now();
    await slow.kill();
    await right.said('"NodeGone"', LEASE_MS);
    console.log(`clocks apart: gone ${Math.round(performance.now() - killedAtMs)} ms after`);
    await slow.start();
    for (const node of cluster.nodes) await untilKnown(node, 3, LEASE_MS);
  },
);

describe('a sender whose listener does not dial', () => {
  test('is refused in time, whichever clock its node and the listener’s have', async () => {
    const redis = keep(await startRedis(SETTINGS));
    const { nodes } = await startApart(redis.url);
    const silent = await Promise.all(nodes.map(async ({ relay }) => openListener(relay)));
    for (const node of nodes) await untilKnown(node, 3);
    for (const { relay } of nodes) {
      const startedAtMs = performance.now();
      const { status } = await dialSender(relay).answer;
      expect(status).toBe(504);
      const tookMs = performance.now() - startedAtMs;
      expect(tookMs).toBeGreaterThan(ACCEPT_TIMEOUT_MS - 50);
      expect(tookMs).toBeLessThan(ACCEPT_TIMEOUT_MS + 1_500);
    }
    expect(silent).toHaveLength(3);
  });
});

test('a token is judged by the clock of the node that it comes to', async () => {
  const redis = keep(await startRedis(SETTINGS));
  const { nodes } = await startApart(redis.url);
  keep(new StayingListener(nodes[0].relay));
  for (const node of nodes) await untilKnown(node, 1);
  const statusesOf = async (ttlSec: number): Promise<number[]> =>
    Promise.all(
      nodes.map(async ({ relay }) => {
        const token = relay.token('hyco', { ttlSec });
        return (await dialSender(relay, 'hyco', { token }).answer).status;
      }),
    );
  // Good for longer than the clocks are wrong by: good everywhere.
  expect(await statusesOf(MINUTE_SEC * 2)).toEqual([101, 101, 101]);
  expect(await statusesOf(MINUTE_SEC / 2)).toEqual([101, 401, 101]);
  expect(await statusesOf(-MINUTE_SEC / 2)).toEqual([401, 401, 101]);
  const [, fast] = nodes;
  const token = fast.relay.token('hyco', { ttlSec: MINUTE_SEC / 2 });
  const refused = await dialListener(fast.relay, 'hyco', { token }).answer;
  expect([refused.status, refused.reason]).toEqual([401, expect.stringMatching(/^ExpiredToken/)]);
  expect((await send(fast.relay, '/hyco')).status).toBe(200);
});

test(
  'the clock of Redis steps over all leases: a node may be taken for dead, and no connect and no request fails',
  { timeout: 60_000 },
  async () => {
    const clock = keep(wrongClock(0));
    const redis = keep(await startRedis(SETTINGS, { env: clock.env }));
    const cluster = keep(await startProcesses({ redisUrl: redis.url }));
    const [, , third] = cluster.nodes;
    if (third === undefined) throw new Error('three nodes');
    const startedAtMs = performance.now();
    const listeners = cluster.nodes.map(node => keep(new StayingListener(node.relay)));
    for (const node of cluster.nodes) await untilKnown(node, 3);
    const connects = cluster.nodes.map(node => connecting(node.relay));
    const requests = requesting(third.relay);
    // Nobody is judged by who has not held a lease for the time of one.
    const steadyMs = startedAtMs + LEASE_MS + 1_000;
    await until('the nodes are steady', () => performance.now() > steadyMs, LEASE_MS * 2);
    clock.set(MINUTE_SEC);
    await until(
      'a node that lives is taken for dead',
      () => cluster.nodes.some(({ lines }) => lines.some(line => line.includes('"LeaseLost"'))),
      LEASE_MS,
    );
    for (const node of cluster.nodes) await untilKnown(node, 3, LEASE_MS);
    const statuses = (await Promise.all(connects.map(one => one.stop()))).flat();
    expect(new Set(statuses)).toEqual(new Set([101]));
    expect(new Set(await requests.stop())).toEqual(new Set([200]));
    expect(listeners.map(({ listens }) => listens)).toEqual([1, 1, 1]);
  },
);
