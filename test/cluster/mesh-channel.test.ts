import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { MeshChannel } from '../../src/cluster/mesh-channel.ts';
import { newStreamKey } from '../../src/cluster/stream-records.ts';
import { encodeClosePayload, encodeFrame, OPCODES } from '../../src/protocol/frames.ts';
import {
  ChannelRecord,
  describeChannel,
  FarChannel,
  type ChannelUnderTest,
} from '../conformance/channel.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryChannel } from '../support/memory-channel.ts';
import { startPair } from '../support/mesh-node.ts';

describeChannel('a stream of the mesh', async () => openStream());

describeChannel('a pair in memory', () => {
  const [channel, peer] = MemoryChannel.pair();
  return Promise.resolve({
    channel,
    far: new FarChannel(peer),
    [Symbol.asyncDispose]: () => Promise.resolve(channel.destroy()),
  });
});

describe('MeshChannel', () => {
  test('is cut when the other side has closed and does not end its connection', async () => {
    await using it = await openRaw();
    it.channel.close(1000, 'over');
    it.peer.write(encodeFrame({ opcode: OPCODES.close, payload: encodeClosePayload(1000) }));
    await it.record.had('closed');
    it.clock.advance(9_999);
    await new Promise(resolve => void setImmediate(resolve));
    expect(it.record.types).toEqual(['closed']);
    it.clock.advance(1);
    await it.record.had('gone');
    expect(it.clock.pendingTasks).toBe(0);
  });

  test('that has closed waits for the other Close as long as anything comes, and no longer', async () => {
    await using it = await openRaw();
    it.channel.close(1000, 'over');
    const frame = encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('x') });
    for (let i = 1; i <= 3; i += 1) {
      it.clock.advance(100_000);
      it.peer.write(frame);
      await it.record.had('fragment', i);
    }
    it.clock.advance(119_000);
    await new Promise(resolve => void setImmediate(resolve));
    expect(it.record.types).toEqual(['fragment', 'fragment', 'fragment']);
    it.clock.advance(2_000);
    await it.record.had('gone');
  });
});

/** A channel on one end of a connection, with the other as a plain socket. */
async function openRaw() {
  const clock = new FakeClock();
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const peer = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const accepted = new Promise<Socket>(resolve => void server.once('connection', resolve));
  const socket = (await accepted).pause();
  peer.resume();
  const channel = new MeshChannel(socket, Buffer.alloc(0), { clock, onFault: () => {} });
  return {
    clock,
    peer,
    channel,
    record: new ChannelRecord(channel),
    [Symbol.asyncDispose]: async () => {
      peer.destroy();
      socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}

async function openStream(): Promise<ChannelUnderTest> {
  const pair = await startPair();
  const key = newStreamKey();
  const expected = pair.b.mesh.expectStream({ key, from: 'a', timeoutMs: 5_000 });
  const opened = await pair.a.mesh.openStream('b', key);
  const channel = opened.channel();
  const peer = (await expected).channel();
  if (channel === undefined || peer === undefined) throw new Error('The streams were taken');
  return {
    channel,
    far: new FarChannel(peer),
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  };
}
