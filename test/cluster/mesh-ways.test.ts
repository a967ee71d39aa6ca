import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { HandedStream, type HandOver } from '../../src/cluster/handed-stream.ts';
import { MeshKeys } from '../../src/cluster/mesh-credentials.ts';
import { newLocalName } from '../../src/cluster/mesh-local.ts';
import { MESH_DEFAULTS } from '../../src/cluster/mesh-options.ts';
import { MeshStreams } from '../../src/cluster/mesh-streams.ts';
import { type StreamPath } from '../../src/cluster/stream-dial.ts';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import type { Channel } from '../../src/relay/ports.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { MemoryChannel } from '../support/memory-channel.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { makeMeshCertificate } from '../support/mesh-certificates.ts';
import { startMeshNode, startPair, TEST_SECRET, type TestMeshNode } from '../support/mesh-node.ts';

const WAIT = { timeoutMs: 5_000 };
const LOCAL = { ways: { local: true } };

/** What `native-hand-over.ts` does, between meshes of one process; keeps what was said. */
class Exchange implements HandOver {
  readonly takers = new Map<string, (channel: Channel, record: Uint8Array) => void>();
  readonly records: Uint8Array[] = [];
  take(name: string, onTaken: (channel: Channel, record: Uint8Array) => void) {
    this.takers.set(name, onTaken);
    return () => void this.takers.delete(name);
  }
  give(channel: Channel, name: string, record: Uint8Array): Promise<boolean> {
    this.records.push(record);
    const taker = this.takers.get(name);
    taker?.(channel, record);
    return Promise.resolve(taker !== undefined);
  }
}

function pathsOf(node: TestMeshNode): string[] {
  const name = 'halfway_mesh_stream_paths_total ';
  return node.counted.filter(line => line.startsWith(name)).map(line => line.slice(name.length));
}

async function carryStream(from: TestMeshNode, to: TestMeshNode): Promise<void> {
  const key = newStreamKey();
  const expected = to.mesh.expectStream({ key, from: from.nodeId, ...WAIT });
  await from.mesh.openStream(to.nodeId, key);
  (await expected).destroy();
}

describe('streams between nodes of one machine', () => {
  test('go over a Unix socket, past the mesh address, in both directions', async () => {
    await using pair = await startPair(LOCAL, LOCAL);
    await using proxy = await startFaultProxy(pair.b.mesh.port);
    pair.a.list.set([pair.b.node(proxy.port)]);
    await carryStream(pair.a, pair.b);
    await carryStream(pair.b, pair.a);
    expect([pathsOf(pair.a), pathsOf(pair.b)]).toEqual([['local'], ['local']]);
  });

  test.each([
    ['the one that opens', {}, LOCAL],
    ['the one that is opened to', LOCAL, {}],
  ])('go over TCP when %s has it off', async (_name, a, b) => {
    await using pair = await startPair(a, b);
    await carryStream(pair.a, pair.b);
    expect(pathsOf(pair.a)).toEqual(['tcp']);
  });

  test('go over TCP, by TLS, where certificates prove who is there', async () => {
    const credentials = { certificates: makeMeshCertificate() };
    await using pair = await startPair({ ...LOCAL, credentials }, { ...LOCAL, credentials });
    await carryStream(pair.a, pair.b);
    expect(pathsOf(pair.a)).toEqual(['tcp']);
  });

  test('go over TCP where the name leads nowhere: the other node is on another machine', async () => {
    await using b = await startMeshNode({ nodeId: 'b' });
    const paths: StreamPath[] = [];
    const streams = new MeshStreams({
      clock: systemClock,
      keys: new MeshKeys({ secret: TEST_SECRET }),
      limits: MESH_DEFAULTS,
      nodeId: 'a',
      onFault: () => {},
      onOpened: path => void paths.push(path),
    });
    for (let i = 0; i < 2; i += 1) {
      const key = newStreamKey();
      const expected = b.mesh.expectStream({ key, from: 'a', ...WAIT });
      await streams.open(b.node(), key, {}, newLocalName());
      (await expected).destroy();
    }
    expect(paths).toEqual(['tcp', 'tcp']);
    streams.close();
  });

  test('strangers at the Unix socket are strangers', async () => {
    await using pair = await startPair(LOCAL, LOCAL);
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, from: 'a', ...WAIT });
    expected.catch(() => {});
    const credentials = { secret: 'not the secret of these nodes, 01234567' };
    const stranger = new MeshStreams({
      clock: systemClock,
      keys: new MeshKeys(credentials),
      limits: MESH_DEFAULTS,
      nodeId: 'a',
      onFault: () => {},
      onOpened: path => expect(path).toBe('local'),
    });
    const localName = pair.a.mesh.links()[0]?.peer?.localName;
    if (localName === undefined) throw new Error('It has said no name');
    await stranger.open(pair.b.node(), key, {}, localName);
    await pair.b.logged('MeshConnectionRefused', 'stream-forged');
    await pair.a.mesh.openStream('b', key);
    expect((await expected).nodeId).toBe('a');
    stranger.close();
  });
});

describe('giveChannel() and expectEither()', () => {
  test('meet by the key: the channel itself is what comes', async () => {
    const handOver = new Exchange();
    const node = { ways: { local: true, handOver } };
    await using pair = await startPair(node, node);
    const key = newStreamKey();
    const expected = pair.b.mesh.expectEither({ key, from: 'a', ...WAIT });
    const [channel] = MemoryChannel.pair();
    expect(await pair.a.mesh.giveChannel('b', key, channel)).toBe(true);
    const handed = await expected;
    if (!(handed instanceof HandedStream)) throw new Error('A stream came');
    expect(handed).toMatchObject({ nodeId: 'a', head: {} });
    expect(handed.channel).toBe(channel);
    expect(pathsOf(pair.a)).toEqual(['handed']);
    expect(pair.b.mesh.stats()).toMatchObject({ openStreams: 0, expectedStreams: 0 });
  });

  test('nothing is given where one has it off, or nobody takes', async () => {
    const handOver = new Exchange();
    await using off = await startPair({ ways: { local: true, handOver } }, {});
    const [channel] = MemoryChannel.pair();
    expect(await off.a.mesh.giveChannel('b', newStreamKey(), channel)).toBe(false);
    await using untaken = await startPair({ ways: { local: true, handOver } }, LOCAL);
    expect(await untaken.a.mesh.giveChannel('b', newStreamKey(), channel)).toBe(false);
    expect(await untaken.a.mesh.giveChannel('nobody', newStreamKey(), channel)).toBe(false);
  });

  test('what is unknown, forged, played back or not wanted so is cut, and said', async () => {
    const handOver = new Exchange();
    const node = { ways: { local: true, handOver } };
    await using pair = await startPair(node, node);
    const key = newStreamKey();
    const cut = async (record: Uint8Array, reason: string): Promise<void> => {
      const [channel] = MemoryChannel.pair();
      const seen = new ChannelRecord(channel);
      for (const taker of handOver.takers.values()) taker(channel, record);
      await seen.had('gone');
      await pair.b.logged('MeshConnectionRefused', reason);
    };
    await cut(new Uint8Array(3), 'stream-unknown');
    const onlyStreams = pair.b.mesh.expectStream({ key, from: 'a', ...WAIT });
    const [channel] = MemoryChannel.pair();
    await pair.a.mesh.giveChannel('b', key, channel);
    const [record = new Uint8Array(0)] = handOver.records;
    await pair.a.mesh.openStream('b', key);
    (await onlyStreams).destroy();
    const again = pair.b.mesh.expectEither({ key, from: 'a', ...WAIT });
    const forged = Uint8Array.from(record);
    forged[20] = (forged[20] ?? 0) ^ 1;
    await cut(forged, 'stream-forged');
    for (const taker of handOver.takers.values()) taker(MemoryChannel.pair()[0], record);
    expect(await again).toBeInstanceOf(HandedStream);
    await cut(record, 'stream-unknown');
  });
});
