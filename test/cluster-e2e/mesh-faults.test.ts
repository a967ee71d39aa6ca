// The line between two nodes is cut, or carries one way only; nodes that others cannot or must not speak to.
import { afterEach, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import {
  startProcesses,
  type NodeProcess,
  type ProcessCluster,
} from '../support/cluster-processes.ts';
import { connecting, untilKnown } from '../support/cluster-watch.ts';
import { untilWhole } from '../support/cluster.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { open as openAddress } from '../support/raw-websocket.ts';
import { startRedis } from '../support/redis.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

const SETTINGS = ['--maxmemory-policy', 'noeviction'];
/** How long a silent link is taken for alive, and a moment more. */
const SILENCE_MS = 5_000;

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

/** Three nodes; all that the others say to the third goes by `line`, which can fail. */
async function startWithLine(): Promise<{ cluster: ProcessCluster; line: FaultProxy }> {
  const redis = keep(await startRedis(SETTINGS));
  const lines: FaultProxy[] = [];
  const cluster = keep(
    await startProcesses({
      redisUrl: redis.url,
      optionsOf: async (nodeId, { meshPort }) => {
        if (nodeId !== 'node-c') return {};
        const line = keep(await startFaultProxy(meshPort));
        lines.push(line);
        return { meshAdvertise: `127.0.0.1:${line.port}` };
      },
    }),
  );
  const [line] = lines;
  if (line === undefined) throw new Error('The third node has a line');
  return { cluster, line };
}

async function links(node: NodeProcess): Promise<number> {
  return node.relay.metric('halfway_mesh_links{state="up"}');
}

test('a line that is cut: pairs across it end, connects go to listeners that can be reached, and it mends', async () => {
  const { cluster, line } = await startWithLine();
  const [first, second, third] = three(cluster);
  const control = await openListener(first.relay, 'a');
  await untilKnown(third, 1);
  keep(new StayingListener(first.relay));
  keep(new StayingListener(third.relay));
  for (const node of cluster.nodes) await untilKnown(node, 3);
  // A pair across the line: its sender is on the third node, its rendezvous on the first... and one beside it.
  const pairAt = async (sender: NodeProcess, rendezvous: NodeProcess) => {
    const dialling = dialSender(sender.relay, 'a');
    const { address } = await control.nextAccept();
    const listener = await openAddress(address.replace(/^ws:\/\/[^/]+/, rendezvous.relay.wsUrl));
    const { socket } = await dialling.answer;
    if (socket === undefined) throw new Error('The sender was refused');
    return { sender: socket, listener };
  };
  const across = await pairAt(third, first);
  const beside = await pairAt(second, first);
  const connects = [first, second, third].map(node => connecting(node.relay));

  line.refuse(true);
  line.cut();
  await until('the link is down', async () => (await links(first)) === 1);
  expect(await across.sender.nextClose()).toMatchObject({ code: 1001 });
  expect(await across.listener.nextClose()).toMatchObject({ code: 1001 });
  beside.sender.send('still here');
  expect(await beside.listener.nextText()).toBe('still here');

  const mendedAtMs = performance.now();
  line.refuse(false);
  await untilWhole(cluster.nodes.map(({ relay }) => relay));
  console.log(`cut: linked again ${Math.round(performance.now() - mendedAtMs)} ms after`);
  const statuses = (await Promise.all(connects.map(one => one.stop()))).flat();
  expect(new Set(statuses)).toEqual(new Set([101]));
  // Both ends live, and neither was taken out of the directory.
  expect(first.lines.join('\n')).not.toContain('"NodeGone"');
});

test.each(['to-target', 'to-client'] as const)(
  'a line that carries nothing %s: noticed by its silence, and connects go to those that can be reached',
  { timeout: 60_000 },
  async direction => {
    const { cluster, line } = await startWithLine();
    const [first, , third] = three(cluster);
    const near = keep(new StayingListener(first.relay));
    keep(new StayingListener(third.relay));
    for (const node of cluster.nodes) await untilKnown(node, 2);
    const stalledAtMs = performance.now();
    line.stall(direction);
    await until('the link is down', async () => (await links(first)) === 1, SILENCE_MS + 5_000);
    const noticedMs = performance.now() - stalledAtMs;
    const before = near.taken;
    expect((await dialSender(first.relay).answer).status).toBe(101);
    await until('the near one took it', () => near.taken > before);
    const mendedAtMs = performance.now();
    line.flow();
    await untilWhole(cluster.nodes.map(({ relay }) => relay));
    console.log(
      `silent ${direction}: noticed after ${Math.round(noticedMs)} ms, linked again ` +
        `${Math.round(performance.now() - mendedAtMs)} ms after`,
    );
    expect((await dialSender(third.relay).answer).status).toBe(101);
  },
);

test(
  'a sender whose listener’s node falls silent is put before another one',
  { timeout: 60_000 },
  async () => {
    const { cluster, line } = await startWithLine();
    const [first, , third] = three(cluster);
    const silent = await openListener(third.relay);
    await untilKnown(first, 1);
    line.stall('to-target', 'to-client');
    const dialling = dialSender(first.relay);
    keep(new StayingListener(first.relay));
    const startedAtMs = performance.now();
    expect((await dialling.answer).status).toBe(101);
    expect(performance.now() - startedAtMs).toBeLessThan(15_000);
    expect(silent.control.waitingFrames).toBe(0);
  },
);

test('a node with another mesh secret is let in by nobody, says so, and gets nobody’s senders', async () => {
  const redis = keep(await startRedis(SETTINGS));
  const cluster = keep(
    await startProcesses({ redisUrl: redis.url, nodeIds: ['node-a', 'node-b'] }),
  );
  const [first] = cluster.nodes;
  if (first === undefined) throw new Error('a node');
  keep(new StayingListener(first.relay));
  keep(new StayingListener(first.relay, { path: 'a' }));
  const stranger = await cluster.add('node-c', {
    meshSecret: 'another-secret-than-that-of-all-others',
  });
  await stranger.start();
  await Promise.all([first.said('"proof-wrong"', 10_000), stranger.said('"proof-wrong"', 10_000)]);
  keep(new StayingListener(stranger.relay));
  await untilKnown(first, 3);
  for (let i = 0; i < 10; i += 1) {
    const { status, socket } = await dialSender(first.relay).answer;
    expect(status).toBe(101);
    await socket?.reset();
  }
  expect(await links(stranger)).toBe(0);
  // It knows that there is a listener, and that it cannot ask it.
  expect((await dialSender(stranger.relay, 'a').answer).status).toBe(503);
  for (const [node, other] of [
    [first, 'node-c'],
    [stranger, 'node-a'],
  ] as const) {
    await until(
      'it says that it is not whole',
      async () => {
        const ready = await fetch(`${node.relay.adminUrl}/readyz`);
        return (await ready.text()).includes(`degraded: no mesh link to ${other}`);
      },
      10_000,
    );
  }
});

test('a node that cannot be reached where it says so is reported, and passed over', async () => {
  const redis = keep(await startRedis(SETTINGS));
  const cluster = keep(
    await startProcesses({ redisUrl: redis.url, nodeIds: ['node-a', 'node-b'] }),
  );
  const [first] = cluster.nodes;
  if (first === undefined) throw new Error('a node');
  const nowhere = await cluster.add('node-c', { meshAdvertise: '127.0.0.1:1' });
  await nowhere.start();
  await first.said('ECONNREFUSED', 10_000);
  keep(new StayingListener(first.relay));
  keep(new StayingListener(nowhere.relay));
  await untilKnown(first, 2);
  for (let i = 0; i < 10; i += 1) {
    const { status, socket } = await dialSender(first.relay).answer;
    expect(status).toBe(101);
    await socket?.reset();
  }
});
