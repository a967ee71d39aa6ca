// Long-poll sessions that go on over a WebSocket, and back.
import { once } from 'node:events';
import { expect, test } from 'vitest';
import WebSocket from 'ws';
import {
  encodePollBatch,
  parsePollBatch,
  POLL_FRAME_COST_BYTES,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
  type PollBatch,
} from '../../src/protocol/poll-frames.ts';
import { OPCODE } from '../../src/relay/ports.ts';
import { Inbox } from '../support/inbox.ts';
import { HttpSession } from '../support/poll-http.ts';
import { PollListener } from '../support/poll-listener.ts';
import { dial } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import type { ChannelRecord } from '../conformance/channel.ts';

const LONGEST_COST = POLL_FRAME_COST_BYTES + POLL_FRAME_PAYLOAD_BYTES_MAX;

interface Place {
  readonly turn: number;
  readonly ack: number;
  readonly credit?: number;
}

/** A session's WebSocket, batch by batch. */
class SessionSocket {
  readonly ws: WebSocket;
  readonly batches = new Inbox<PollBatch>('a batch');
  readonly closed: Promise<readonly [number, string]>;

  private constructor(ws: WebSocket) {
    this.ws = ws;
    ws.on('message', (data: Buffer) => {
      const batch = parsePollBatch(new Uint8Array(data));
      if (typeof batch === 'string') throw new Error(batch);
      this.batches.put(batch);
    });
    this.closed = new Promise(resolve => {
      ws.once('close', (code, reason) => resolve([code, reason.toString()]));
    });
  }

  static async open(session: HttpSession, place: Place): Promise<SessionSocket> {
    const { turn, ack, credit = 1_048_576 } = place;
    const url = session.url.replace(/^http/, 'ws');
    const ws = new WebSocket(`${url}?turn=${turn}&ack=${ack}&credit=${credit}`);
    const socket = new SessionSocket(ws);
    await within('the WebSocket', once(ws, 'open'));
    return socket;
  }

  send(batch: Partial<PollBatch>): void {
    this.ws.send(encodePollBatch({ seq: 1, ack: 0, credit: 1_048_576, frames: [], ...batch }));
  }

  next(): Promise<PollBatch> {
    return this.batches.next();
  }

  /** The next frames, as texts. */
  async nextTexts(): Promise<readonly string[]> {
    for (;;) {
      const { frames } = await this.next();
      if (frames.length > 0) return textsOf(frames);
    }
  }
}

function text(payload: string): PollBatch['frames'][number] {
  return { opcode: 1, isFinal: true, payload: Buffer.from(payload) };
}

function textsOf(frames: PollBatch['frames']): readonly string[] {
  return frames.map(({ payload }) => Buffer.from(payload).toString());
}

/** A sender of which each request is made by hand, joined with a listener. */
async function joined(
  relay: TestRelay,
): Promise<{ readonly session: HttpSession; readonly far: ChannelRecord }> {
  const listener = await PollListener.open(relay);
  const opening = HttpSession.open(relay);
  const far = await listener.acceptNext();
  return { session: await opening, far };
}

function say(far: ChannelRecord, what: string): void {
  far.channel.send(OPCODE.text, true, Buffer.from(what));
}

test('a session goes on over a WebSocket where its polls ended, and back', async () => {
  await using relay = await startRelay();
  const { session, far } = await joined(relay);
  say(far, 'one');
  expect(textsOf((await session.next({ turn: 1 })).frames)).toEqual(['one']);
  await session.put({ seq: 1, ack: 1, frames: [text('first')] });

  const socket = await SessionSocket.open(session, { turn: 2, ack: 1 });
  expect(await socket.next()).toMatchObject({ seq: 2, ack: 1, frames: [] });
  say(far, 'two');
  expect(await socket.nextTexts()).toEqual(['two']);
  socket.send({ seq: 2, ack: 2, frames: [text('second'), text('third')] });
  expect((await far.wholeMessages(3)).map(({ payload }) => payload.toString())).toEqual([
    'first',
    'second',
    'third',
  ]);

  const superseding = session.next({ turn: 3, ack: 2 });
  expect(await within('the close', socket.closed)).toEqual([
    1008,
    expect.stringMatching(/^session-superseded: /),
  ]);
  say(far, 'three');
  expect(textsOf((await superseding).frames)).toEqual(['three']);
  await session.put({ seq: 4, ack: 3, frames: [text('fourth')] });
  await far.wholeMessages(4);
  expect(await relay.metric('halfway_poll_resumed_total')).toBe(1);
});

test('frames that a broken WebSocket lost are given again to the next poll', async () => {
  await using relay = await startRelay();
  const { session, far } = await joined(relay);
  const socket = await SessionSocket.open(session, { turn: 1, ack: 0 });
  say(far, 'lost');
  expect(await socket.nextTexts()).toEqual(['lost']);
  socket.ws.terminate();
  await socket.closed;
  say(far, 'late');
  const batch = await session.next({ turn: 2, ack: 0 });
  expect(batch.seq).toBe(1);
  expect(textsOf(batch.frames)[0]).toBe('lost');
  // The other one may have been on its way already.
  const rest = batch.frames.length === 2 ? batch : await session.next({ turn: 3, ack: 1 });
  expect(textsOf(rest.frames).at(-1)).toBe('late');
  expect(await relay.metric('halfway_poll_replayed_frames_total')).toBe(1);
});

test('a WebSocket takes over from a held poll', async () => {
  await using relay = await startRelay();
  const { session } = await joined(relay);
  const held = session.poll({ turn: 1 });
  await until('it is held', async () => (await relay.metric('halfway_poll_held_polls')) === 3);
  const socket = await SessionSocket.open(session, { turn: 2, ack: 0 });
  expect(await held).toEqual({ reason: 'session-superseded' });
  expect(await socket.next()).toMatchObject({ seq: 1, ack: 0, frames: [] });
});

test('everything is acknowledged by the time a quarter of the window has come', async () => {
  await using relay = await startRelay();
  const { session, far } = await joined(relay);
  const socket = await SessionSocket.open(session, { turn: 1, ack: 0 });
  await socket.next();
  const payload = Buffer.alloc(POLL_FRAME_PAYLOAD_BYTES_MAX, 'x');
  const frames = [1, 2, 3, 4].map(() => ({ opcode: 2, isFinal: true, payload }) as const);
  socket.send({ seq: 1, frames });
  expect(await socket.next()).toMatchObject({ ack: 4, credit: 1_048_576 + 4 * LONGEST_COST });
  await far.wholeMessages(4);
});

test('bytes in bulk cross both ways at once, with credit as their only brake', async () => {
  await using relay = await startRelay();
  const { session, far } = await joined(relay);
  const socket = await SessionSocket.open(session, { turn: 1, ack: 0, credit: 0 });
  const payload = Buffer.alloc(POLL_FRAME_PAYLOAD_BYTES_MAX, 'x');
  const count = 64;
  for (let i = 0; i < count; i += 1) far.channel.send(OPCODE.binary, true, payload);
  let [sent, received, credit] = [0, 0, 1_048_576];
  while (received < count || sent < count) {
    const frames: PollBatch['frames'][number][] = [];
    while (sent < count && (sent + 1) * LONGEST_COST <= credit && frames.length < 15) {
      frames.push({ opcode: 2, isFinal: true, payload });
      sent += 1;
    }
    const given = (received + 4) * LONGEST_COST;
    socket.send({ seq: sent - frames.length + 1, ack: received, credit: given, frames });
    const batch = await socket.next();
    received += batch.frames.length;
    expect(received * LONGEST_COST).toBeLessThanOrEqual(given);
    credit = Math.max(credit, batch.credit);
  }
  await far.hadBytes(count * payload.length);
});

test('both Close frames over a WebSocket end the session, and it with 1000', async () => {
  await using relay = await startRelay({ lingerMs: 100 });
  const { session, far } = await joined(relay);
  const socket = await SessionSocket.open(session, { turn: 1, ack: 0 });
  far.channel.close(4001, 'bye');
  expect((await socket.nextTexts())[0]).toMatch(/bye$/);
  socket.send({
    ack: 1,
    frames: [{ opcode: 8, isFinal: true, payload: Buffer.from([0x03, 0xe8]) }],
  });
  expect(await within('the close', socket.closed)).toEqual([1000, 'session-gone']);
  await far.had('gone');
  expect((await session.get()).status).toBe(410);
});

test.each<[string, RegExp, (socket: SessionSocket) => void]>([
  ['bytes that are none', /^poll-malformed: /, ({ ws }) => ws.send(Buffer.from('nonsense'))],
  ['a text', /^poll-malformed: /, ({ ws }) => ws.send('nonsense')],
  ['a gap', /^sequence-gap: /, socket => socket.send({ seq: 3, frames: [text('x')] })],
  ['an unknown acknowledgement', /^ack-unknown: /, socket => socket.send({ ack: 7 })],
  [
    'a continuation of nothing',
    /^frames-malformed: /,
    socket => socket.send({ frames: [{ opcode: 0, isFinal: true, payload: Buffer.alloc(1) }] }),
  ],
])(
  'a batch with %s closes the WebSocket with 1008, and the session lives',
  async (_w, why, act) => {
    await using relay = await startRelay();
    const { session, far } = await joined(relay);
    const socket = await SessionSocket.open(session, { turn: 1, ack: 0 });
    act(socket);
    expect(await within('the close', socket.closed)).toEqual([1008, expect.stringMatching(why)]);
    expect((await session.put({ frames: [text('still here')] })).status).toBe(200);
    expect((await far.wholeMessages(1))[0]?.payload.toString()).toBe('still here');
  },
);

test('a batch that is too large cuts the WebSocket, and the session lives', async () => {
  await using relay = await startRelay();
  const { session } = await joined(relay);
  const socket = await SessionSocket.open(session, { turn: 1, ack: 0 });
  socket.ws.on('error', () => {});
  socket.ws.send(Buffer.alloc(1_048_577));
  expect((await within('the close', socket.closed))[0]).toBe(1006);
  expect((await session.put({ frames: [text('still here')] })).status).toBe(200);
});

test.each<[string, number, string, (session: HttpSession) => string]>([
  ['a forged id', 404, 'session-unknown', ({ url }) => url.replace(/.{4}$/, '0000')],
  ['no id', 404, 'session-unknown', ({ url }) => url.slice(0, -64)],
  ['a query that cannot be read', 400, 'poll-malformed', ({ url }) => `${url}?turn=-1`],
])('a handshake with %s is refused', async (_what, status, reason, urlOf) => {
  await using relay = await startRelay();
  const { session } = await joined(relay);
  const url = urlOf(session).replace(/^http/, 'ws');
  const answer = await dial(url).answer;
  expect([answer.status, answer.body]).toEqual([status, expect.stringContaining(reason)]);
});

test('a handshake without Upgrade, or for a session that is over, is refused', async () => {
  await using relay = await startRelay();
  const { session } = await joined(relay);
  const url = `${session.url.replace(/^http/, 'ws')}?turn=1&ack=0&credit=1`;
  expect((await dial(url, { without: ['upgrade'] }).answer).status).toBe(400);
  await session.end();
  expect((await dial(url).answer).status).toBe(410);
});
