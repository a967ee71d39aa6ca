import { expect, test } from 'vitest';
import {
  encodePollBatch,
  parsePollBatch,
  pollFrameCost,
  type PollBatch,
  type PollFrame,
} from '../../../src/protocol/poll-frames.ts';
import type { PollRefused } from '../../../src/relay/poll-door.ts';
import { PollPump } from '../../../src/transports/poll/poll-pump.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { pollSessions } from '../../support/poll-doors.ts';

const turn = (): Promise<void> => new Promise(resolve => void setImmediate(resolve));

function frame(text: string): PollFrame {
  return { opcode: 1, isFinal: true, payload: Buffer.from(text) };
}

function start(place: { readonly ack?: number; readonly credit?: number } = {}) {
  const clock = new FakeClock();
  const { sessions } = pollSessions({ clock, limits: { windowBytes: 400_000 } });
  const reserved = sessions.reserve();
  if (reserved === undefined) throw new Error('no room');
  const { id, session } = reserved.open('sender');
  const batches: PollBatch[] = [];
  const refusals: PollRefused[] = [];
  const sink = { hasRoom: true };
  const pump = new PollPump({
    id,
    door: sessions,
    question: { turn: 1, ack: 0, credit: 1_000_000, ...place },
    ackBytesMax: 100_000,
    sink: {
      send: bytes => {
        const batch = parsePollBatch(bytes);
        if (typeof batch === 'string') throw new Error(batch);
        batches.push(batch);
        return sink.hasRoom;
      },
      refused: refusal => refusals.push(refusal),
    },
  });
  const say = (text: string): void => session.send(1, true, Buffer.from(text));
  const message = (batch: Partial<PollBatch>): void =>
    pump.message(encodePollBatch({ seq: 1, ack: 0, credit: 1_000_000, frames: [], ...batch }));
  const texts = (): string[] =>
    batches.flatMap(({ frames }) => frames.map(({ payload }) => Buffer.from(payload).toString()));
  return { clock, sessions, id, session, pump, batches, refusals, sink, say, message, texts };
}

test('start() tells at once how far the session is, and then gives each frame once', async () => {
  const it = start();
  it.pump.start();
  expect(it.batches).toEqual([{ seq: 1, ack: 0, credit: 400_000, frames: [] }]);
  for (const text of ['a', 'b', 'c']) {
    it.say(text);
    await turn();
  }
  expect(it.texts()).toEqual(['a', 'b', 'c']);
  it.clock.advance(60_000);
  await turn();
  expect(it.batches, 'nothing is said without news').toHaveLength(4);
  it.sessions.close();
});

test('frames that there is no credit for follow when the client gives some', async () => {
  const it = start({ credit: 0 });
  it.pump.start();
  it.say('12345');
  await turn();
  expect(it.texts()).toEqual([]);
  it.message({ credit: pollFrameCost(frame('12345')) });
  await turn();
  expect(it.texts()).toEqual(['12345']);
  it.sessions.close();
});

test('a connection that is full is asked for no more until it has drained', async () => {
  const it = start();
  it.sink.hasRoom = false;
  it.pump.start();
  it.say('a');
  await turn();
  expect(it.texts()).toEqual([]);
  it.sink.hasRoom = true;
  it.pump.drained();
  await turn();
  expect(it.texts()).toEqual(['a']);
  // Its poll is held: another would take over from it.
  it.pump.drained();
  it.say('b');
  await turn();
  expect(it.texts()).toEqual(['a', 'b']);
  expect(it.refusals).toEqual([]);
  it.sessions.close();
});

test('message() acknowledges once so much has come', () => {
  const it = start();
  it.pump.start();
  const payload = Buffer.alloc(60_000);
  const long = { opcode: 2, isFinal: true, payload } as const;
  it.message({ seq: 1, frames: [long] });
  expect(it.batches).toHaveLength(1);
  it.message({ seq: 2, frames: [long] });
  expect(it.batches.at(-1)).toMatchObject({ ack: 2, frames: [] });
  it.sessions.close();
});

test.each<[string, string, (it: ReturnType<typeof start>) => void]>([
  ['bytes that are none', 'poll-malformed', it => it.pump.message(Buffer.from('x'))],
  ['a gap', 'sequence-gap', it => it.message({ seq: 2, frames: [frame('x')] })],
  ['an unknown ack', 'ack-unknown', it => it.message({ ack: 1 })],
])('message() with %s ends it, once', (_what, reason, act) => {
  const it = start();
  it.pump.start();
  act(it);
  act(it);
  expect(it.refusals.map(refusal => refusal.reason)).toEqual([reason]);
  expect(it.session.isPolled).toBe(false);
  it.sessions.close();
});

test('a newer poll ends it, and an older one than that it refuses itself', () => {
  const it = start();
  it.pump.start();
  const newer = { turn: 2, ack: 0, credit: 0, bytesMax: 1_000 };
  it.sessions.poll(it.id, newer, () => {});
  expect(it.refusals).toEqual([]);
  it.pump.drained();
  expect(it.refusals).toEqual([{ reason: 'session-superseded' }]);
  it.sessions.close();
});

test('both Close frames and their acknowledgement end it, told before', async () => {
  const it = start();
  it.pump.start();
  it.session.close(1000, '');
  await turn();
  expect(it.batches.at(-1)?.frames).toHaveLength(1);
  it.message({ ack: 1, frames: [{ opcode: 8, isFinal: true, payload: Buffer.alloc(0) }] });
  expect(it.batches.at(-1)).toMatchObject({ ack: 1, frames: [] });
  expect(it.refusals).toEqual([{ reason: 'session-gone' }]);
  it.sessions.close();
});

test('stop() lets go of the poll that is held, and the session waits for another', async () => {
  const it = start();
  it.pump.start();
  await turn();
  expect(it.session.isPolled).toBe(true);
  it.pump.stop();
  expect(it.session.isPolled).toBe(false);
  it.say('a');
  await turn();
  expect(it.texts()).toEqual([]);
  it.sessions.close();
});
