// Nodes that share a machine and are allowed to know it: what a listener dials elsewhere moves to its sender's node.
import { afterEach, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startProcesses, type NodeProcess } from '../support/cluster-processes.ts';
import { untilKnown } from '../support/cluster-watch.ts';
import { open as openAddress } from '../support/raw-websocket.ts';
import { startRedis } from '../support/redis.ts';

const SETTINGS = ['--maxmemory-policy', 'noeviction'];
const HANDED = 'halfway_mesh_stream_paths_total{path="handed"}';
const TCP = 'halfway_mesh_stream_paths_total{path="tcp"}';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});
function keep<Kept extends AsyncDisposable>(one: Kept): Kept {
  open.push(one);
  return one;
}

async function startThree(
  meshLocal: (nodeId: string) => string,
): Promise<readonly [NodeProcess, NodeProcess, NodeProcess]> {
  const redis = keep(await startRedis(SETTINGS));
  const { nodes } = keep(
    await startProcesses({
      redisUrl: redis.url,
      optionsOf: async nodeId => Promise.resolve({ meshLocal: meshLocal(nodeId) }),
    }),
  );
  const [a, b, c] = nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  return [a, b, c];
}

/** A sender on the first node, whose listener has its channel on the second and dials the third. */
async function joinAcross([first, second, third]: readonly [
  NodeProcess,
  NodeProcess,
  NodeProcess,
]) {
  const control = await openListener(second.relay);
  await untilKnown(first, 1);
  const dialling = dialSender(first.relay);
  const { address } = await control.nextAccept();
  const listener = await openAddress(address.replace(/^ws:\/\/[^/]+/, third.relay.wsUrl));
  const { socket: sender } = await dialling.answer;
  if (sender === undefined) throw new Error('The sender was refused');
  return { sender, listener };
}

test('a pair outlives the node that its listener dialled, and closes as on one node', async () => {
  const nodes = await startThree(() => 'on');
  const { sender, listener } = await joinAcross(nodes);
  sender.send('to the listener');
  expect(await listener.nextText()).toBe('to the listener');
  const [, , third] = nodes;
  expect(await third.relay.metric(HANDED)).toBe(1);
  expect(await third.relay.metric('halfway_mesh_hops_total')).toBe(0);
  await third.kill();
  listener.send('to the sender');
  expect(await sender.nextText()).toBe('to the sender');
  sender.sendClose(4001, 'done');
  expect(await listener.nextClose()).toMatchObject({ code: 4001, reason: 'done' });
  listener.sendClose(4002);
  expect(await sender.nextClose()).toMatchObject({ code: 4002 });
});

test.each(['node-a', 'node-c'])('it crosses by the mesh where %s has that off', async off => {
  const nodes = await startThree(nodeId => (nodeId === off ? 'off' : 'on'));
  const { sender, listener } = await joinAcross(nodes);
  sender.send('to the listener');
  expect(await listener.nextText()).toBe('to the listener');
  const [, , third] = nodes;
  expect(await third.relay.metric(HANDED)).toBe(0);
  expect(await third.relay.metric(TCP)).toBe(1);
  await third.kill();
  expect(await sender.nextClose()).toMatchObject({ code: 1001 });
});
