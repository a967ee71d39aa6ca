import { expect, test } from 'vitest';
import { Randomness } from '../../src/auth/randomness.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { ListenerDirectory } from '../../src/cluster/listener-directory.ts';
import { MemoryCoordinator } from '../../src/cluster/memory-coordinator.ts';
import { openMemoryDirectory } from '../../src/cluster/memory-directory.ts';
import { openCluster } from '../../src/cluster/open-cluster.ts';
import { meshHeadOf, meshMessage } from '../../src/protocol/mesh-messages.ts';
import { aListener, reportBug, TEST_TIMES } from '../support/directories.ts';
import { startMeshNode, TEST_SECRET } from '../support/mesh-node.ts';
import { FakeMeter, pendingOffer } from '../support/relay-doubles.ts';
import { until } from '../support/within.ts';

const SILENT = { debug(): void {}, info(): void {}, warn(): void {}, error(): void {} };

/** A node whose coordinator is away. */
async function openAlone() {
  const coordinator = new MemoryCoordinator(systemClock);
  let directory: ListenerDirectory | undefined;
  const cluster = await openCluster(
    {
      nodeId: 'z',
      pollHoldMs: 25_000,
      listenersMax: 25,
      mesh: {
        host: '127.0.0.1',
        port: 0,
        advertise: '127.0.0.1',
        credentials: { secret: TEST_SECRET },
        local: false,
        handOver: undefined,
      },
    },
    {
      clock: systemClock,
      random: new Randomness(),
      log: SILENT,
      meter: new FakeMeter(),
      openDirectory: node => {
        const times = { ...TEST_TIMES, joinTimeoutMs: 10 };
        const opened = openMemoryDirectory(coordinator, { ...node, times, reportBug });
        opened.link.setUp(false);
        directory = opened.directory;
        return directory;
      },
      channelOf: () => undefined,
      joinHop: () => {},
      reportBug,
    },
  );
  return {
    directory: cluster.directory,
    /** How another node reaches it. */
    place: {
      nodeId: 'z',
      pollHoldMs: 25_000,
      epoch: cluster.directory.self().epoch,
      meshAddress: `127.0.0.1:${cluster.mesh.port}`,
    },
    [Symbol.asyncDispose]: () => cluster.close(),
  };
}

test('listeners are announced on links of the version that has the message, and on no others', async () => {
  await using node = await openAlone();
  await using old = await startMeshNode({ nodeId: 'old', versions: { min: 1, max: 1 } });
  await using peer = await startMeshNode({ nodeId: 'peer' });
  for (const one of [old, peer]) {
    one.list.set([node.place]);
    await one.events.next();
  }
  const listener = aListener();
  await node.directory.claim(listener, { listenersMax: 25 });
  const heard = async () => meshHeadOf('listeners', (await peer.heard.next()).message);
  expect(await heard()).toMatchObject({ node: 'z', isAway: true, rows: [] });
  expect(await heard()).toMatchObject({ rows: [[listener.key, expect.any(String)]] });

  // The answer to an offer for nobody is the first that the old node hears.
  const { id } = pendingOffer();
  const offer = { id, listenerKey: 'none', text: '', hasBody: false };
  old.mesh.send('z', meshMessage('offer', offer));
  const { message } = await old.heard.next();
  expect(meshHeadOf('offer-refused', message)).toMatchObject({ id });
});

test('what a linked node announces is looked up like any other listener, until the link is down', async () => {
  await using node = await openAlone();
  await using peer = await startMeshNode({ nodeId: 'peer' });
  peer.list.set([node.place]);
  await peer.events.next();
  const { key } = aListener();
  const row = JSON.stringify(['tests', 'orders', 'listener', 'wss://relay.example']);
  const head = { epoch: `${'0'.repeat(32)}.1`, isAway: true, rows: [[key, row] as const] };
  peer.mesh.send('z', meshMessage('listeners', { ...head, node: 'peer', released: [] }));
  const found = () => node.directory.listenersOf('tests', 'orders');
  await until('it is known', () => found().length === 1);
  expect(found()[0]).toMatchObject({ key, node: 'peer' });
  await peer.mesh.close();
  await until('it is known no longer', () => found().length === 0);
});
