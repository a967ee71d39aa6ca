import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { MeshChannel } from '../../src/cluster/mesh-channel.ts';
import type { MeshStream } from '../../src/cluster/mesh-stream.ts';
import { MeshStreamError } from '../../src/cluster/mesh-streams.ts';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import { encodeFrame, FrameParser, OPCODES } from '../../src/protocol/frames.ts';
import { OPCODE, type Channel } from '../../src/relay/ports.ts';
import { ChannelRecord } from '../conformance/channel.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { makeMeshCertificate } from '../support/mesh-certificates.ts';
import { startMeshNode, startPair, type TestMeshNode } from '../support/mesh-node.ts';
import { until, within } from '../support/within.ts';

const WAIT = { timeoutMs: 5_000 };

describe('openStream() and expectStream()', () => {
  test('meet by the key, and the head comes along', async () => {
    await using pair = await startPair();
    const streams = await openPair(pair.a, pair.b, { trackingId: 'x' });
    expect(streams.expected.nodeId).toBe('a');
    expect(streams.expected.head).toEqual({ trackingId: 'x' });
    expect(streams.opened.nodeId).toBe('b');
    expect(pair.a.mesh.stats()).toMatchObject({ openStreams: 1, expectedStreams: 0 });
    streams.opened.destroy();
    streams.expected.destroy();
    await until('both forget it', () =>
      [pair.a, pair.b].every(({ mesh }) => mesh.stats().openStreams === 0),
    );
  });

  test('are open in both directions, whoever dials the link', async () => {
    await using pair = await startPair();
    await openPair(pair.b, pair.a, {});
    await openPair(pair.a, pair.b, {});
  });

  test('frames may follow the key at once: nothing is waited for', async () => {
    await using pair = await startPair();
    await using proxy = await startFaultProxy(pair.b.mesh.port);
    pair.a.list.set([pair.b.node(proxy.port)]);
    proxy.stall('to-client');
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, ...WAIT });
    const near = channelOf(await pair.a.mesh.openStream('b', key));
    near.receive(NOBODY);
    near.send(OPCODE.text, true, Buffer.from('first'));
    const far = new ChannelRecord(channelOf(await expected));
    const [message] = await far.wholeMessages(1);
    expect(message?.payload.toString()).toBe('first');
  });

  test('a key is good for one stream', async () => {
    await using pair = await startPair();
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, ...WAIT });
    await pair.a.mesh.openStream('b', key);
    await expected;
    const second = new ChannelRecord(channelOf(await pair.a.mesh.openStream('b', key)));
    await second.had('gone');
    expect(second.types).toEqual(['gone']);
    await pair.b.logged('MeshConnectionRefused', 'stream-unknown');
    expect(pair.b.mesh.stats().openStreams).toBe(1);
  });

  test('one that comes too late is refused', async () => {
    await using pair = await startPair();
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, timeoutMs: 20 });
    await expect(expected).rejects.toMatchObject({ name: 'MeshStreamError', reason: 'late' });
    const late = new ChannelRecord(channelOf(await pair.a.mesh.openStream('b', key)));
    await late.had('gone');
    await pair.b.logged('MeshConnectionRefused', 'stream-unknown');
  });

  test('one that was recorded is refused when it is played back', async () => {
    await using pair = await startPair();
    await using proxy = await startFaultProxy(pair.b.mesh.port);
    pair.a.list.set([pair.b.node(proxy.port)]);
    proxy.isRecording = true;
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, ...WAIT });
    await pair.a.mesh.openStream('b', key);
    await expected;
    const recorded = proxy.recorded['to-target'].find(chunk => chunk[4] === 16);
    expect(recorded?.includes(Buffer.from(key, 'hex'))).toBe(false);
    expect(recorded?.includes(key)).toBe(false);
    await isCut(pair.b, recorded ?? Buffer.alloc(0));
    await pair.b.logged('MeshConnectionRefused', 'stream-unknown');
  });

  test('one whose proof is forged is refused, and the right one still comes in', async () => {
    await using pair = await startPair();
    await using spy = await startFaultProxy(pair.b.mesh.port);
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, ...WAIT });
    // A node that knows the key and not the secret: somebody who has read it on the link.
    const credentials = { secret: 'not the secret of these nodes, 01234567' };
    await using stranger = await startMeshNode({ nodeId: 'a', credentials });
    stranger.list.set([pair.b.node(spy.port)]);
    const forged = new ChannelRecord(channelOf(await stranger.mesh.openStream('b', key)));
    await forged.had('gone');
    await pair.b.logged('MeshConnectionRefused', 'stream-forged');
    await pair.a.mesh.openStream('b', key);
    expect((await expected).nodeId).toBe('a');
  });

  test('only the node that was given the key may use it', async () => {
    await using pair = await startPair();
    await using c = await startMeshNode({ nodeId: 'c' });
    c.list.set([pair.b.node()]);
    const key = newStreamKey();
    const expected = pair.b.mesh.expectStream({ key, from: 'a', ...WAIT });
    await c.mesh.openStream('b', key);
    await pair.b.logged('MeshConnectionRefused', 'wrong-node');
    await pair.a.mesh.openStream('b', key);
    expect((await expected).nodeId).toBe('a');
  });

  test('giveUpStreams() rejects what that node alone had to open, and nothing else', async () => {
    await using pair = await startPair();
    const [key, other] = [newStreamKey(), newStreamKey()];
    const expected = pair.b.mesh.expectStream({ key, from: 'a', ...WAIT });
    const either = pair.b.mesh.expectEither({ key: newStreamKey(), from: 'a', ...WAIT });
    const fromC = pair.b.mesh.expectStream({ key: newStreamKey(), from: 'c', timeoutMs: 100 });
    const fromAny = pair.b.mesh.expectStream({ key: other, ...WAIT });
    pair.b.mesh.giveUpStreams('a');
    await expect(expected).rejects.toMatchObject({ reason: 'link-down' });
    await expect(either).rejects.toMatchObject({ reason: 'link-down' });
    const late = new ChannelRecord(channelOf(await pair.a.mesh.openStream('b', key)));
    await late.had('gone');
    await pair.b.logged('MeshConnectionRefused', 'stream-unknown');
    await pair.a.mesh.openStream('b', other);
    expect((await fromAny).nodeId).toBe('a');
    await expect(fromC).rejects.toMatchObject({ reason: 'late' });
  });

  test('reject for what cannot be', async () => {
    await using pair = await startPair(
      { limits: { streamsMax: 1, expectedStreamsMax: 1 } },
      { limits: { streamsMax: 1 } },
    );
    const { a } = pair;
    const key = newStreamKey();
    await expect(a.mesh.openStream('nobody', key)).rejects.toMatchObject({
      reason: 'unknown-node',
    });
    const long = { text: 'x'.repeat(20_000) };
    await expect(a.mesh.openStream('b', key, long)).rejects.toMatchObject({
      reason: 'head-too-long',
    });
    const abort = new AbortController();
    const first = a.mesh.expectStream({ key, ...WAIT, signal: abort.signal });
    const second = a.mesh.expectStream({ key: newStreamKey(), ...WAIT });
    await expect(second).rejects.toMatchObject({ reason: 'streams-max' });
    abort.abort();
    await expect(first).rejects.toMatchObject({ reason: 'aborted' });
    await expect(a.mesh.expectStream({ key: 'short', ...WAIT })).rejects.toThrow(/32 lower-case/);
    await openPair(a, pair.b, {});
    await expect(a.mesh.openStream('b', key)).rejects.toMatchObject({ reason: 'streams-max' });
    a.list.set([{ ...pair.b.node(), nodeId: 'z', meshAddress: '127.0.0.1:1' }]);
    const after = a.mesh.openStream('z', key);
    await expect(after).rejects.toBeInstanceOf(MeshStreamError);
  });

  test('reject when the mesh closes, and break what is open', async () => {
    const pair = await startPair();
    const waiting = pair.a.mesh.expectStream({ key: newStreamKey(), ...WAIT });
    const streams = await openPair(pair.a, pair.b, {});
    const far = new ChannelRecord(channelOf(streams.expected));
    await pair.a.mesh.close();
    await expect(waiting).rejects.toMatchObject({ reason: 'closing' });
    await far.had('gone');
    await pair[Symbol.asyncDispose]();
  });

  test('a node that is gone for good takes its streams with it, a broken link does not', async () => {
    await using pair = await startPair();
    await using proxy = await startFaultProxy(pair.b.mesh.port);
    const streams = await openPair(pair.a, pair.b, {});
    const near = new ChannelRecord(channelOf(streams.opened));
    const far = new ChannelRecord(channelOf(streams.expected));
    pair.a.list.set([pair.b.node(proxy.port)]);
    proxy.refuse(true);
    pair.a.list.set([{ ...pair.b.node(proxy.port), epoch: 'next-life-of-b.1' }]);
    expect(await pair.a.events.next()).toBe('down b wrong-process');
    near.channel.send(OPCODE.text, true, Buffer.from('still here'));
    await far.wholeMessages(1);
    pair.a.list.set([]);
    await near.had('gone');
    await far.had('gone');
  });

  test('works over TLS, where there is no socket to take', async () => {
    const credentials = { certificates: makeMeshCertificate() };
    await using pair = await startPair({ credentials }, { credentials });
    const streams = await openPair(pair.a, pair.b, {});
    expect(streams.opened.takeSocket()).toBeUndefined();
    const near = new ChannelRecord(channelOf(streams.opened));
    const far = new ChannelRecord(channelOf(streams.expected));
    near.channel.send(OPCODE.binary, true, Buffer.alloc(300_000, 'x'));
    await far.wholeMessages(1);
    far.channel.close(4000, 'done');
    await near.had('closed');
    near.channel.send(OPCODE.text, true, Buffer.from('half-open'));
    near.channel.close(1000, '');
    await far.had('gone');
    await near.had('gone');
    expect(far.messages()).toHaveLength(2);
  });
});

describe('takeSocket()', () => {
  test('gives the socket with what was read of it, once', async () => {
    await using pair = await startPair();
    const streams = await openPair(pair.a, pair.b, {});
    const near = channelOf(streams.opened);
    near.receive(NOBODY);
    near.send(OPCODE.text, true, Buffer.from('before'));
    await new Promise(resolve => void setTimeout(resolve, 20));
    const taken = streams.expected.takeSocket();
    if (taken === undefined) throw new Error('There is no socket');
    expect(streams.expected.takeSocket()).toBeUndefined();
    expect(streams.expected.channel()).toBeUndefined();
    expect(pair.b.mesh.stats().openStreams).toBe(0);
    near.send(OPCODE.text, true, Buffer.from('after'));
    const parser = new FrameParser();
    const texts = parser.push(taken.head).map(({ payload }) => Buffer.from(payload).toString());
    taken.socket.on('data', chunk => {
      texts.push(...parser.push(chunk).map(({ payload }) => Buffer.from(payload).toString()));
    });
    readAgain(taken.socket);
    await until('both arrive', () => texts.length === 2);
    expect(texts).toEqual(['before', 'after']);
    taken.socket.destroy();
  });

  test('stops all reading: what comes after it is there for whoever has the descriptor', async () => {
    await using pair = await startPair();
    const streams = await openPair(pair.a, pair.b, {});
    const near = channelOf(streams.opened);
    near.receive(NOBODY);
    const taken = streams.expected.takeSocket();
    if (taken === undefined) throw new Error('There is no socket');
    const before = taken.socket.bytesRead;
    near.send(OPCODE.text, true, Buffer.alloc(1_000));
    // By the time that this is answered, the frame has been there for long.
    for (let i = 0; i < 20; i += 1) {
      await pair.a.mesh.request('b', { kind: 200, head: {}, body: new Uint8Array(0) }, 1_000);
    }
    expect(taken.socket.bytesRead).toBe(before);
    taken.socket.destroy();
  });

  test('with a way to cut it counts as open until it is left, and is cut with the node', async () => {
    await using pair = await startPair();
    const streams = await openPair(pair.a, pair.b, {});
    let cuts = 0;
    const taken = streams.expected.takeSocket(() => (cuts += 1));
    if (taken === undefined) throw new Error('There is no socket');
    taken.socket.destroy();
    await new Promise(resolve => void setImmediate(resolve));
    expect(pair.b.mesh.stats().openStreams).toBe(1);
    streams.expected.destroy();
    expect(cuts).toBe(1);
    taken.left();
    expect(pair.b.mesh.stats().openStreams).toBe(0);
  });
});

describe('a channel over a stream', () => {
  test('answers pings, and ignores pongs', async () => {
    await using it = await openRaw();
    it.raw.socket.write(encodeFrame({ opcode: OPCODES.pong, payload: Buffer.from('x') }));
    it.raw.socket.write(
      encodeFrame({ opcode: OPCODES.ping, payload: Buffer.from('are you there') }),
    );
    const frame = await it.raw.next();
    expect(frame).toMatchObject({ opcode: OPCODES.pong, isMasked: false });
    expect(Buffer.from(frame.payload).toString()).toBe('are you there');
  });

  test('sends no data frame longer than 64 KiB', async () => {
    await using it = await openRaw();
    it.channel.send(OPCODE.binary, true, Buffer.alloc(150_000));
    const frames = [await it.raw.next(), await it.raw.next(), await it.raw.next()];
    expect(frames.map(({ opcode, isFinal, payload }) => [opcode, isFinal, payload.length])).toEqual(
      [
        [OPCODES.binary, false, 65_536],
        [OPCODES.continuation, false, 65_536],
        [OPCODES.continuation, true, 18_928],
      ],
    );
  });

  test('a Close without a code is 1005, and goes out without one', async () => {
    await using it = await openRaw();
    it.raw.socket.write(encodeFrame({ opcode: OPCODES.close, payload: Buffer.alloc(0) }));
    await it.record.had('closed');
    expect(it.record.close()).toMatchObject({ code: 1005, reason: '' });
    it.channel.close(1005, '');
    expect(await it.raw.next()).toMatchObject({ opcode: OPCODES.close, payload: Buffer.alloc(0) });
  });

  test('frames that are none break it, and are told', async () => {
    await using it = await openRaw();
    it.raw.socket.write(encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('good') }));
    it.raw.socket.write(Buffer.from('818000000000', 'hex'));
    await it.record.had('gone');
    expect(it.record.types).toEqual(['fragment', 'gone']);
    const line = await it.node.logged('MeshStreamBroken');
    expect(line).toMatchObject({ level: 'error', fields: { fault: 'a frame is masked' } });
    expect(it.node.counted).toContain('halfway_mesh_stream_faults_total');
  });

  test('a FIN without a Close is a break', async () => {
    await using it = await openRaw();
    it.raw.socket.end(
      encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('x'), isFinal: false }),
    );
    await it.record.had('gone');
    expect(it.record.types).toEqual(['fragment', 'gone']);
  });

  test('a cut while its reader pauses is told, after what was read', async () => {
    await using it = await openRaw();
    it.record.onFragment = () => it.channel.pause();
    const frame = encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('x') });
    it.raw.socket.write(Buffer.concat([frame, frame, frame]));
    await it.record.had('fragment');
    it.raw.socket.end();
    it.record.onFragment = () => {};
    it.channel.resume();
    await it.record.had('gone');
    expect(it.record.types).toEqual(['fragment', 'fragment', 'fragment', 'gone']);
  });

  test('a reset while its reader pauses is told after what was read, too', async () => {
    await using it = await openRaw();
    it.record.onFragment = () => it.channel.pause();
    const frame = encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('x') });
    it.raw.socket.write(Buffer.concat([frame, frame, frame]));
    await it.record.had('fragment');
    it.raw.socket.resetAndDestroy();
    await until('the socket is gone', () => it.node.mesh.stats().openStreams === 0);
    expect(it.record.types).toEqual(['fragment']);
    it.record.onFragment = () => {};
    it.channel.resume();
    await it.record.had('gone');
    expect(it.record.types).toEqual(['fragment', 'fragment', 'fragment', 'gone']);
  });

  test('50 MB each way at once: nothing wrong, and little memory held', async () => {
    await using pair = await startPair();
    const streams = await openPair(pair.a, pair.b, {});
    const near = channelOf(streams.opened);
    const far = channelOf(streams.expected);
    const toFar = pump(near);
    const toNear = pump(far);
    const atFar = sink(far, () => toNear.drained());
    const atNear = sink(near, () => toFar.drained());
    let queuedMax = 0;
    const watch = setInterval(() => {
      queuedMax = Math.max(queuedMax, near.queuedBytes, far.queuedBytes);
    }, 1);
    toFar.start();
    toNear.start();
    await within('50 MB each way', Promise.all([atFar.whole, atNear.whole]), 25_000);
    clearInterval(watch);
    expect([atFar.wrong(), atNear.wrong()]).toEqual([0, 0]);
    // The limit, and the one piece that went over it.
    expect(queuedMax).toBeLessThan(131_072 + PIECE_BYTES_MAX + 4_096);
    expect(atFar.pausesCount() + atNear.pausesCount()).toBeGreaterThan(100);
  });
});

const TRANSFER_BYTES = 50_000_000;
const PIECE_BYTES_MAX = 100_000;
const NOBODY = { fragment: () => {}, drained: () => {}, closed: () => {}, gone: () => {} };

/** Byte `i` of a transfer. */
function byteAt(i: number): number {
  return (i ^ (i >>> 8) ^ (i >>> 16)) & 255;
}

/** Sends pieces of many lengths, as fast as the channel allows. */
function pump(channel: Channel): { start(): void; drained(): void } {
  let sent = 0;
  let length = 1;
  let isInMessage = false;
  const piece = Buffer.alloc(PIECE_BYTES_MAX);
  const go = (): void => {
    while (sent < TRANSFER_BYTES) {
      length = Math.min((length * 7 + 13) % PIECE_BYTES_MAX, TRANSFER_BYTES - sent);
      for (let i = 0; i < length; i += 1) piece[i] = byteAt(sent + i);
      sent += length;
      const opcode = isInMessage ? OPCODE.continuation : OPCODE.binary;
      isInMessage = sent % 2 === 1;
      if (!channel.send(opcode, !isInMessage, piece.subarray(0, length))) return;
    }
    channel.close(1000, '');
  };
  let isOver = false;
  return {
    start: go,
    drained: () => {
      if (sent < TRANSFER_BYTES) go();
      else if (!isOver) {
        isOver = true;
        channel.close(1000, '');
      }
    },
  };
}

/** Checks every byte, and pauses now and then, as a slow reader does. */
function sink(
  channel: Channel,
  drained: () => void,
): { readonly whole: Promise<void>; wrong(): number; pausesCount(): number } {
  let had = 0;
  let wrong = 0;
  let pauses = 0;
  const whole = new Promise<void>((resolve, reject) => {
    channel.receive({
      fragment: (_opcode, _fin, payload) => {
        for (let i = 0; i < payload.length; i += 1) if (payload[i] !== byteAt(had + i)) wrong += 1;
        had += payload.length;
        if (had >> 18 === (had - payload.length) >> 18) return;
        pauses += 1;
        channel.pause();
        setTimeout(() => channel.resume(), 1);
      },
      drained,
      closed: () => {
        if (had === TRANSFER_BYTES) resolve();
        else reject(new Error(`Only ${had} bytes came`));
      },
      gone: () => {},
    });
    channel.resume();
  });
  return { whole, wrong: () => wrong, pausesCount: () => pauses };
}

async function openPair(
  from: TestMeshNode,
  to: TestMeshNode,
  head: Readonly<Record<string, unknown>>,
): Promise<{ readonly opened: MeshStream; readonly expected: MeshStream }> {
  const key = newStreamKey();
  const expected = to.mesh.expectStream({ key, from: from.nodeId, ...WAIT });
  const opened = await from.mesh.openStream(to.nodeId, key, head);
  return { opened, expected: await expected };
}

function channelOf(stream: MeshStream): MeshChannel {
  const channel = stream.channel();
  if (channel === undefined) throw new Error('The stream was taken');
  return channel;
}

/** A channel, with the raw socket of the far end. */
async function openRaw() {
  const pair = await startPair();
  const streams = await openPair(pair.a, pair.b, {});
  const channel = channelOf(streams.opened);
  const taken = streams.expected.takeSocket();
  if (taken === undefined) throw new Error('There is no socket');
  const { socket } = taken;
  const parser = new FrameParser();
  const frames = parser.push(taken.head);
  socket.on('data', chunk => frames.push(...parser.push(chunk)));
  readAgain(socket);
  let read = 0;
  return {
    node: pair.a,
    channel,
    record: new ChannelRecord(channel),
    raw: {
      socket,
      next: async () => {
        await until('a frame', () => frames.length > read);
        read += 1;
        const frame = frames[read - 1];
        if (frame === undefined) throw new Error('unreachable');
        return { ...frame, payload: Buffer.from(frame.payload) };
      },
    },
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
      await pair[Symbol.asyncDispose]();
    },
  };
}

/** Lets Node read a socket that was taken: what a data plane does with its descriptor. */
function readAgain(socket: Socket): void {
  socket.resume();
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null || !('readStart' in handle)) return;
  if (typeof handle.readStart === 'function') handle.readStart();
}

async function isCut(node: TestMeshNode, bytes: Uint8Array): Promise<void> {
  const socket = connect({ port: node.mesh.port, host: '127.0.0.1' });
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  socket.write(bytes);
  await within('the cut', once(socket, 'close'));
}
