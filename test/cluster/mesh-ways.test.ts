import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { HandedStream, type HandOver } from '../../src/cluster/handed-stream.ts';
import { MeshKeys } from '../../src/cluster/mesh-credentials.ts';
import { newLocalName } from '../../src/cluster/mesh-local.ts';
import { MESH_DEFAULTS } from '../../src/cluster/mesh-options.ts';
import { MeshStreams } from '../../src/cluster/mesh-streams.ts';
import { type StreamPath } from '../../src/cluster/stream-dial.ts';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import { TRUNKS_PER_NODE, type MakeTrunk } from '../../src/cluster/mesh-trunks.ts';
import type { Channel } from '../../src/relay/ports.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { MemoryChannel } from '../support/memory-channel.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { makeMeshCertificate } from '../support/mesh-certificates.ts';
import { startMeshNode, startPair, TEST_SECRET, type TestMeshNode } from '../support/mesh-node.ts';
import { until } from '../support/within.ts';

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

/** What `native-trunk.ts` does, but that streams end where they are told of: records behind each other, by length. */
function trunksOf(made: { cut: () => void }[]): MakeTrunk {
  return (stream, side, handlers) => {
    const taken = stream.takeSocket(() => taken?.socket.destroy());
    if (taken === undefined) return undefined;
    const { socket, head, left } = taken;
    let streams = 0;
    const told = (bytes: Buffer): void => {
      for (let rest = bytes; rest.length > 0; rest = rest.subarray(2 + rest.readUInt16BE())) {
        streams += 1;
        handlers.opened(MemoryChannel.pair()[0], rest.subarray(2, 2 + rest.readUInt16BE()));
      }
    };
    if (side === 'takes') socket.on('data', told);
    socket.once('end', () => socket.destroy());
    readAgain(socket);
    told(head);
    socket.once('close', () => {
      left();
      handlers.gone();
    });
    made.push({ cut: () => socket.destroy() });
    return {
      open(record) {
        if (socket.destroyed) return undefined;
        const length = Buffer.alloc(2);
        length.writeUInt16BE(record.length);
        socket.write(Buffer.concat([length, record]));
        streams += 1;
        return MemoryChannel.pair()[0];
      },
      get streams() {
        return streams;
      },
      destroy: () => void socket.destroy(),
    };
  };
}

/** Lets Node read a socket that was taken. */
function readAgain(socket: Socket): void {
  socket.resume();
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null || !('readStart' in handle)) return;
  if (typeof handle.readStart === 'function') handle.readStart();
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
      makeTrunk: undefined,
      onFault: () => {},
      onRefused: () => {},
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
      makeTrunk: undefined,
      onFault: () => {},
      onRefused: () => {},
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

async function startTrunks() {
  const made: { cut: () => void }[] = [];
  const makeTrunk = trunksOf(made);
  const pair = await startPair({ ways: { makeTrunk } }, { ways: { makeTrunk } });
  const open = async (): Promise<unknown> => {
    const key = newStreamKey();
    const expected = pair.b.mesh.expectEither({ key, from: 'a', ...WAIT });
    expect(await pair.a.mesh.openOnTrunk('b', key)).toBeDefined();
    return expected;
  };
  return { ...pair, made, open };
}

describe('openOnTrunk()', () => {
  test('streams to one node share some connections', async () => {
    await using it = await startTrunks();
    const streams = await Promise.all(Array.from({ length: 9 }, () => it.open()));
    for (const one of streams) expect(one).toMatchObject({ nodeId: 'a', head: {} });
    // Seen from both ends.
    expect(it.made.length).toBe(2 * TRUNKS_PER_NODE);
    expect(pathsOf(it.a)).toEqual(Array.from({ length: 9 }, () => 'trunk'));
    expect(it.a.mesh.stats().openStreams).toBe(9);
    expect(it.b.mesh.stats().openStreams).toBe(9);
  });

  test('one that was lost is made anew', async () => {
    await using it = await startTrunks();
    await it.open();
    it.made[0]?.cut();
    await until('both know', () =>
      [it.a, it.b].every(({ mesh }) => mesh.stats().openStreams === 0),
    );
    await it.open();
    expect(it.made.length).toBe(4);
  });

  test('to a build that takes none, there is none', async () => {
    await using pair = await startPair({ ways: { makeTrunk: trunksOf([]) } }, {});
    expect(await pair.a.mesh.openOnTrunk('b', newStreamKey())).toBeUndefined();
    await carryStream(pair.a, pair.b);
    expect(pathsOf(pair.a)).toEqual(['tcp']);
  });

  test('a connection played back opens nothing', async () => {
    const made: { cut: () => void }[] = [];
    const makeTrunk = trunksOf(made);
    await using pair = await startPair({ ways: { makeTrunk } }, { ways: { makeTrunk } });
    await using proxy = await startFaultProxy(pair.b.mesh.port);
    pair.a.list.set([pair.b.node(proxy.port)]);
    proxy.isRecording = true;
    const key = newStreamKey();
    const expected = pair.b.mesh.expectEither({ key, from: 'a', ...WAIT });
    await pair.a.mesh.openOnTrunk('b', key);
    await expected;
    await using player = await startFaultProxy(pair.b.mesh.port);
    const replay = Buffer.concat(proxy.recorded['to-target']);
    const socket = connect({ port: player.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write(replay);
    await pair.b.logged('MeshConnectionRefused', 'stream-unknown');
    expect(made.length).toBe(2);
    socket.destroy();
  });

  test('a node that is gone takes its trunk with it', async () => {
    await using it = await startTrunks();
    await it.open();
    it.a.list.set([]);
    await it.b.mesh.close();
    await until('no stream is left', () => it.a.mesh.stats().openStreams === 0);
  });
});
