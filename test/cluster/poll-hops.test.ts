import { describe, expect, test } from 'vitest';
import { PollHops } from '../../src/cluster/poll-hops.ts';
import type { MeshReply } from '../../src/cluster/mesh-wire.ts';
import { meshMessage } from '../../src/protocol/mesh-messages.ts';
import type { MeshMessage } from '../../src/protocol/mesh-frames.ts';
import type { PollBatch } from '../../src/protocol/poll-frames.ts';
import type { PollProgress } from '../../src/protocol/poll-session.ts';
import type { Poll, PollDoor, PollRefused } from '../../src/relay/poll-door.ts';
import { PollChannel } from '../../src/transports/poll/poll-channel.ts';
import { describeChannel, FarChannel, type ChannelUnderTest } from '../conformance/channel.ts';
import { PollClient } from '../support/poll-client.ts';
import { doorCarrier, pollSessions } from '../support/poll-doors.ts';

const OWNER_TAG = '0000000a';
const BUFFER_BYTES = 1_048_576;
const POLL: Poll = { turn: 1, ack: 0, credit: 100_000, bytesMax: 1_000_000 };

/** The way from a node without sessions to the one that has them; the link can be cut. */
function openHop(nodeTag = OWNER_TAG) {
  const { sessions, outbox } = pollSessions({ nodeTag });
  const owner = new PollHops({
    mesh: { request: unasked },
    nodeOfTag: () => undefined,
    holdMs: 25_000,
  });
  owner.serve(sessions);
  const bodyBytes: number[] = [];
  let failure: Extract<MeshReply, { type: 'failed' }> | undefined;
  const other = new PollHops({
    mesh: {
      request: (_node: string, message: MeshMessage) =>
        new Promise(resolve => {
          if (failure !== undefined) {
            resolve(failure);
            return;
          }
          bodyBytes.push(message.body.length);
          const answer = (given: MeshMessage): boolean => {
            bodyBytes.push(given.body.length);
            resolve({ type: 'answered', message: given });
            return true;
          };
          if (!owner.said(message, answer)) throw new Error('not taken');
        }),
    },
    nodeOfTag: tag => (tag === OWNER_TAG ? 'owner' : undefined),
    holdMs: 25_000,
  });
  const door = other.doorOf(OWNER_TAG);
  if (door === undefined) throw new Error('no door');
  return {
    sessions,
    outbox,
    door,
    other,
    /** Sizes of all bodies that crossed. */
    bodyBytes,
    fail: (why: Extract<MeshReply, { type: 'failed' }>['why']) => {
      failure = { type: 'failed', why };
    },
  };
}

function unasked(): Promise<MeshReply> {
  throw new Error('the owner asks nobody');
}

function openSession({ sessions, outbox }: ReturnType<typeof openHop>) {
  const reserved = sessions.reserve();
  if (reserved === undefined) throw new Error('no room');
  const { id, session } = reserved.open('sender');
  return { id, channel: new PollChannel(session, outbox, BUFFER_BYTES) };
}

function openChannel(): ChannelUnderTest {
  const hop = openHop();
  const { id, channel } = openSession(hop);
  const peer = new PollClient(doorCarrier(hop.door, id), hop.sessions.limits.windowBytes);
  return {
    channel,
    far: new FarChannel(peer),
    async [Symbol.asyncDispose]() {
      hop.sessions.close();
    },
  };
}

function polled(
  door: PollDoor,
  id: Parameters<PollDoor['poll']>[0],
): Promise<PollBatch | PollRefused> {
  return new Promise(resolve => void door.poll(id, POLL, resolve));
}

function posted(
  door: PollDoor,
  id: Parameters<PollDoor['post']>[0],
  batch: PollBatch,
): Promise<PollProgress | PollRefused> {
  return new Promise(resolve => door.post(id, batch, resolve));
}

describeChannel('a long-poll session that is polled at another node', async () => openChannel());

describe('PollHops', () => {
  test('has no door to a node that is not alive', () => {
    expect(openHop().other.doorOf('0000000b')).toBeUndefined();
  });

  test('cuts what is long both ways into messages that a link takes', async () => {
    const hop = openHop();
    const { id, channel } = openSession(hop);
    const frames = Array.from({ length: 10 }, () => ({
      opcode: 2 as const,
      isFinal: true,
      payload: new Uint8Array(50_000),
    }));
    expect(await posted(hop.door, id, { seq: 1, ack: 0, credit: 1_000_000, frames })).toMatchObject(
      {
        ack: 10,
      },
    );
    for (let count = 0; count < 10; count += 1) channel.send(2, true, new Uint8Array(50_000));
    const batch = await polled(hop.door, id);
    expect('frames' in batch && batch.frames.length).toBe(2);
    expect(Math.max(...hop.bodyBytes)).toBeLessThan(140_000);
    hop.sessions.close();
  });

  test('says why the session says no, and how far it is', async () => {
    const hop = openHop();
    const { id } = openSession(hop);
    const gap = { seq: 5, ack: 0, credit: 0, frames: [] };
    const early = {
      ...gap,
      frames: [{ opcode: 1 as const, isFinal: true, payload: new Uint8Array(1) }],
    };
    expect(await posted(hop.door, id, early)).toMatchObject({
      reason: 'sequence-gap',
      progress: { ack: 0 },
    });
    hop.sessions.close();
    expect(await polled(hop.door, id)).toMatchObject({ reason: 'session-gone' });
  });

  test.each([
    ['down', 'overloaded'],
    ['full', 'overloaded'],
    ['late', 'overloaded'],
    ['not-understood', 'session-gone'],
  ] as const)('a link that is %s makes it %s', async (why, reason) => {
    const hop = openHop();
    const { id } = openSession(hop);
    hop.fail(why);
    expect(await polled(hop.door, id)).toMatchObject({ reason });
    expect(await posted(hop.door, id, { seq: 1, ack: 0, credit: 0, frames: [] })).toMatchObject({
      reason,
    });
    hop.sessions.close();
  });

  test('takes nothing that is not about sessions', () => {
    const { other } = openHop();
    expect(other.said(meshMessage('sender-gone', { id: 'x' }), undefined)).toBe(false);
  });

  test('answers a node that sends nonsense', async () => {
    const { other } = openHop();
    const answers: MeshMessage[] = [];
    const answer = (given: MeshMessage): boolean => answers.push(given) > 0;
    other.said(meshMessage('poll-end', { session: 'no id' }), answer);
    other.said(meshMessage('poll-post', { session: 'a'.repeat(72) }, new Uint8Array(3)), answer);
    expect(answers.map(({ head }) => head['reason'])).toEqual(['session-unknown', 'overloaded']);
  });
});
