import { newStreamKey } from '../../src/cluster/mesh-streams.ts';
import { describeChannel, FarChannel, type ChannelUnderTest } from '../conformance/channel.ts';
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
