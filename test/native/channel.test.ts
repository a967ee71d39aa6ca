import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { MeshChannel } from '../../src/cluster/mesh-channel.ts';
import { OPCODE, type Channel } from '../../src/relay/ports.ts';
import { adoptStream, type NodeStream } from '../../src/transports/native-stream.ts';
import {
  ChannelRecord,
  describeChannel,
  FarChannel,
  type ChannelUnderTest,
} from '../conformance/channel.ts';
import { FrameClient } from '../support/frame-client.ts';
import { connection, requirePlane, startNativeRelay } from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

const NOTHING = Buffer.alloc(0);

/** A stream as the mesh gives it. */
class TestStream implements NodeStream {
  readonly socket: Socket;
  leftTimes = 0;
  cut: (() => void) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  takeSocket(cut?: () => void): ReturnType<NodeStream['takeSocket']> {
    this.cut = cut;
    return { socket: this.socket, head: NOTHING, left: () => void (this.leftTimes += 1) };
  }
}

function adopted(socket: Socket): Channel {
  const channel = adoptStream(requirePlane(), new TestStream(socket));
  if (channel === undefined) throw new Error('Cannot adopt');
  return channel;
}

/** Both ends of a stream; the far one of either kind, as nodes with and without the addon meet. */
async function openStream(far: 'native' | 'javascript'): Promise<ChannelUnderTest> {
  const relay = await startNativeRelay();
  const sockets = await connection();
  const channel = adopted(sockets.near);
  const peer =
    far === 'native'
      ? adopted(sockets.far)
      : new MeshChannel(sockets.far.pause(), NOTHING, { clock: systemClock, onFault: () => {} });
  return {
    channel,
    far: new FarChannel(peer),
    async [Symbol.asyncDispose]() {
      channel.destroy();
      peer.destroy();
      await relay[Symbol.asyncDispose]();
    },
  };
}

describeChannel('a native stream', async () => openStream('native'));
describeChannel('a native stream to a node without the addon', async () =>
  openStream('javascript'),
);

test('adoptStream() lets go of the stream once, when its channel is gone', async () => {
  await using relay = await startNativeRelay();
  const { near, far } = await connection();
  const stream = new TestStream(near);
  const channel = adoptStream(relay.plane, stream);
  expect(near.destroyed).toBe(true);
  if (channel === undefined) throw new Error('the stream was not adopted');
  const record = new ChannelRecord(channel);
  const peer = FrameClient.ofStream(far);
  peer.sendText('hello');
  await record.had('fragment');
  expect(stream.leftTimes).toBe(0);
  stream.cut?.();
  await record.had('gone');
  await within('the end', peer.ended);
  expect(stream.leftTimes).toBe(1);
  channel.send(OPCODE.text, true, Buffer.from('nobody'));
  peer.fin();
});

test('adoptStream() destroys what the plane cannot take, and lets go of it', async () => {
  await using relay = await startNativeRelay();
  const { plane } = relay;
  const { near, far } = await connection();
  const stream = new TestStream(near);
  const refusing = { ...plane, adopt: () => 0 };
  expect(adoptStream(refusing, stream)).toBeUndefined();
  expect(near.destroyed).toBe(true);
  expect(stream.leftTimes).toBe(1);
  far.destroy();
  await until('nothing left', () => plane.stats().legs === 0);
});

test('adoptStream() leaves alone a stream that does not give its socket away', () => {
  const stream: NodeStream = { takeSocket: () => undefined };
  expect(adoptStream(requirePlane(), stream)).toBeUndefined();
});
