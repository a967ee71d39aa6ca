import { PollChannel } from '../../../src/transports/poll/poll-channel.ts';
import { describeChannel, FarChannel, type ChannelUnderTest } from '../../conformance/channel.ts';
import { PollClient } from '../../support/poll-client.ts';
import { doorCarrier, pollSessions } from '../../support/poll-doors.ts';

const BUFFER_BYTES = 1_048_576;

function openChannel(): ChannelUnderTest {
  const { sessions, outbox } = pollSessions();
  const reserved = sessions.reserve();
  if (reserved === undefined) throw new Error('no room');
  const { id, session } = reserved.open('sender');
  const channel = new PollChannel(session, outbox, BUFFER_BYTES);
  const peer = new PollClient(doorCarrier(sessions, id), sessions.limits.windowBytes);
  return {
    channel,
    far: new FarChannel(peer),
    async [Symbol.asyncDispose]() {
      sessions.close();
    },
  };
}

describeChannel('a long-poll session', async () => openChannel());
