import { expect, test, vi } from 'vitest';
import { OPCODE, type ChannelReceiver } from '../../src/relay/ports.ts';
import { NativeChannel } from '../../src/transports/native-channel.ts';
import type { FrameReceiver } from '../../src/transports/native-plane.ts';

const LEG = 7;

/** A channel of a plane in which its leg still is, or not. */
function channelOf(leg: 'there' | 'gone') {
  const receivers: FrameReceiver[] = [];
  const channel = new NativeChannel(
    {
      deliver: (_leg, frames) => {
        if (leg === 'there') receivers.push(frames);
        return leg === 'there';
      },
      writeFrame: () => 0,
      close: () => {},
      destroy: () => {},
      pause: () => {},
      resume: () => {},
    },
    LEG,
  );
  return { channel, receivers };
}

function receiver() {
  return {
    fragment: vi.fn<ChannelReceiver['fragment']>(),
    drained: vi.fn<ChannelReceiver['drained']>(),
    closed: vi.fn<ChannelReceiver['closed']>(),
    gone: vi.fn<ChannelReceiver['gone']>(),
  };
}

test('receive() tells of an end that came before anybody listened, after it has returned', async () => {
  const { channel } = channelOf('gone');
  const events = receiver();
  channel.receive(events);
  expect(events.gone).not.toHaveBeenCalled();
  await Promise.resolve();
  expect(events.gone).toHaveBeenCalledTimes(1);
});

test('receive() passes parts of a frame on as fragments of one message', () => {
  const { channel, receivers } = channelOf('there');
  const events = receiver();
  channel.receive(events);
  const [from] = receivers;
  const [ab, c, nothing] = [Buffer.from('ab'), Buffer.from('c'), Buffer.alloc(0)];
  // A final text frame in three parts, the first of them only its header.
  from?.chunk(0x81, true, false, nothing);
  from?.chunk(0x81, false, false, ab);
  from?.chunk(0x81, false, true, c);
  // A binary message: an empty fragment, then an empty end.
  from?.chunk(0x02, true, true, nothing);
  from?.chunk(0x80, true, true, nothing);
  expect(events.fragment.mock.calls).toEqual([
    [OPCODE.text, false, ab],
    [OPCODE.continuation, true, c],
    [OPCODE.binary, false, nothing],
    [OPCODE.continuation, true, nothing],
  ]);
  from?.closeFrame(1000, 'bye');
  from?.gone();
  expect(events.closed.mock.calls).toEqual([[1000, 'bye']]);
  expect(events.gone).toHaveBeenCalledTimes(1);
});
