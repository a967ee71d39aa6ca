// Nodes of several versions in one cluster: one minor apart they work together, two apart they refuse each other.
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { afterEach, expect, test } from 'vitest';
import { MESH_VERSIONS } from '../../src/protocol/mesh-frames.ts';
import type { HycoWs } from '../deploy/hyco.ts';
import { dialSender } from '../support/azure-clients.ts';
import { startClusterProxy } from '../support/cluster-proxy.ts';
import { startProcesses, type NodeProcess } from '../support/cluster-processes.ts';
import { connecting, requesting, untilKnown } from '../support/cluster-watch.ts';
import { untilWhole } from '../support/cluster.ts';
import { pattern, send } from '../support/http-sender.ts';
import { makeOtherVersion } from '../support/other-version.ts';
import { startRedis } from '../support/redis.ts';
import { relayAt, type TestRelay } from '../support/relay.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until, within } from '../support/within.ts';

const hycoWs: HycoWs = createRequire(import.meta.url)('hyco-ws');
const SETTINGS = ['--maxmemory-policy', 'noeviction'];
/** A hybrid connection for each node's listener. */
const PATHS = ['hyco', 'a', 'a/b'] as const;
/** Longer than fits a control channel: the listener fetches it at a rendezvous. */
const LARGE_BODY_BYTES = 200_000;

/** A minor version may add one version of the mesh, and goes on speaking that of its predecessor. */
const NEXT = {
  version: '0.2.0',
  mesh: { min: MESH_VERSIONS.max, max: MESH_VERSIONS.max + 1 },
} as const;
const ONE_AFTER = {
  version: '0.3.0',
  mesh: { min: MESH_VERSIONS.max + 1, max: MESH_VERSIONS.max + 2 },
} as const;

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

/** WebSockets and requests, small and large, from every node to a listener on each. */
async function expectAllReachAll(nodes: readonly NodeProcess[]): Promise<void> {
  for (const { relay } of nodes) {
    for (const path of PATHS) {
      const { status, socket } = await dialSender(relay, path).answer;
      expect(status).toBe(101);
      socket?.send('hello');
      expect(await socket?.nextText()).toBe('hello');
      await socket?.reset();
      expect(await send(relay, `/${path}`)).toMatchObject({ status: 200, body: Buffer.from(path) });
      const body = pattern(LARGE_BODY_BYTES);
      const large = await send(relay, `/${path}`, { method: 'POST', body });
      expect(large).toMatchObject({ status: 200, body: Buffer.from(path) });
    }
  }
}

/** Microsoft's own package as listener and as sender. */
async function expectHycoWorks(relay: TestRelay): Promise<void> {
  const { wsUrl } = relay;
  const server = hycoWs.createRelayedServer(
    { server: `${wsUrl}/$hc/open?sb-hc-action=listen`, token: relay.token('open') },
    socket => socket.on('message', data => socket.send(data)),
  );
  await within('listening', once(server, 'listening'));
  for (let i = 0; i < 6; i += 1) {
    const client = hycoWs.relayedConnect(
      `${wsUrl}/$hc/open?sb-hc-action=connect`,
      relay.token('open'),
    );
    await within('open', once(client, 'open'));
    const echoed = once(client, 'message');
    const data = pattern(LARGE_BODY_BYTES);
    client.send(data);
    const back: Uint8Array = (await within('the echo', echoed))[0];
    expect(Buffer.from(back).equals(data)).toBe(true);
    client.close();
    await within('the end', once(client, 'close'));
  }
  server.close();
}

test(
  'a cluster is upgraded node by node to the next minor version: all goes on, in every mixture',
  { timeout: 120_000 },
  async () => {
    const next = keep(makeOtherVersion(NEXT));
    const redis = keep(await startRedis(SETTINGS));
    const cluster = keep(
      await startProcesses({
        redisUrl: redis.url,
        options: { trustedProxies: '127.0.0.1/32', logLevel: 'info' },
      }),
    );
    const { nodes } = cluster;
    const [first] = nodes;
    if (first === undefined) throw new Error('three nodes');
    const proxy = keep(
      await startClusterProxy(
        'haproxy',
        nodes.map(({ port }) => port),
        { tls: false },
      ),
    );
    const relay = relayAt({ port: proxy.port, adminPort: 0 }, first.relay);
    // Each stays at its node, and comes back to it when it has started again.
    for (const [i, node] of nodes.entries()) {
      keep(new StayingListener(node.relay, { path: PATHS[i] ?? 'hyco' }));
    }
    // HAProxy sends each to another node.
    for (let i = 0; i < nodes.length; i += 1) keep(new StayingListener(relay, { path: 'open' }));
    for (const node of nodes) await untilKnown(node, 6);
    const requests = requesting(relay, '/open');
    const connects = connecting(relay, 'open');
    for (const node of nodes) {
      expect(await node.drain()).toBe(0);
      await node.start({}, { main: next.main });
      await untilWhole(nodes.map(one => one.relay));
      await until('HAProxy sends it work', async () => (await proxy.up()).includes(node.port));
      for (const one of nodes) await untilKnown(one, 6);
      await expectAllReachAll(nodes);
    }
    expect(new Set(await requests.stop())).toEqual(new Set([200]));
    expect(new Set(await connects.stop())).toEqual(new Set([101]));
    const linked = (version: number): boolean =>
      nodes.some(({ lines }) =>
        lines.some(line => line.includes('"MeshLinkUp"') && line.includes(`"version":${version}`)),
      );
    expect([linked(MESH_VERSIONS.max), linked(NEXT.mesh.max)]).toEqual([true, true]);
    for (const { lines } of nodes) expect(lines.join('\n')).not.toContain('version-unknown');
  },
);

test(
  'behind HAProxy, hyco-ws finds its peers in a cluster of two versions',
  { timeout: 60_000 },
  async () => {
    const next = keep(makeOtherVersion(NEXT));
    const redis = keep(await startRedis(SETTINGS));
    const { nodes } = keep(
      await startProcesses({
        redisUrl: redis.url,
        options: { trustedProxies: '127.0.0.1/32' },
        settingOf: nodeId => (nodeId === 'node-b' ? { main: next.main } : {}),
      }),
    );
    const [first] = nodes;
    if (first === undefined) throw new Error('three nodes');
    const ports = nodes.map(({ port }) => port);
    const proxy = keep(await startClusterProxy('haproxy', ports, { tls: false }));
    // Its listener may be on a node of either version, its six senders come to both.
    for (let i = 0; i < 3; i += 1) {
      await expectHycoWorks(relayAt({ port: proxy.port, adminPort: 0 }, first.relay));
    }
  },
);

test('two minor versions apart: both say why they refuse each other, and serve what they can reach', async () => {
  const after = keep(makeOtherVersion(ONE_AFTER));
  const redis = keep(await startRedis(SETTINGS));
  const cluster = keep(
    await startProcesses({ redisUrl: redis.url, nodeIds: ['node-a', 'node-b'] }),
  );
  const [first, second] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error('two nodes');
  keep(new StayingListener(first.relay));
  const stranger = await cluster.add('node-c', {}, { main: after.main });
  await stranger.start();
  const { min, max } = ONE_AFTER.mesh;
  for (const [node, event, detail] of [
    [first, 'MeshLinkRefused', `this node speaks ${min} to ${max}`],
    [stranger, 'MeshConnectionRefused', `this node speaks ${min} to ${max}`],
  ] as const) {
    await node.said('"version-unknown"', 10_000);
    const line = node.lines.find(one => one.includes('"version-unknown"')) ?? '';
    expect(line).toContain(`"event":"${event}"`);
    expect(line).toContain(detail);
  }
  expect(first.lines.join('\n')).toMatch(/upgrade one minor at a time/);
  for (const [node, reasons] of [
    [first, ['node-c']],
    [stranger, ['node-a', 'node-b']],
  ] as const) {
    await until(
      'it says whom it cannot reach',
      async () => {
        const text = await (await fetch(`${node.relay.adminUrl}/readyz`)).text();
        return reasons.every(one => text.includes(`degraded: no mesh link to ${one}`));
      },
      15_000,
    );
  }
  // Its own listeners are for its own senders, and others' senders are not sent into nothing.
  keep(new StayingListener(stranger.relay));
  await untilKnown(first, 2);
  for (const node of [first, second, stranger]) {
    for (let i = 0; i < 5; i += 1) {
      const { status, socket } = await dialSender(node.relay).answer;
      expect(status).toBe(101);
      await socket?.reset();
    }
  }
});
