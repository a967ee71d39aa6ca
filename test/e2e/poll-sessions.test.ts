// What a session takes and refuses, request by request.
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import {
  encodePollBatch,
  POLL_FRAME_COST_BYTES,
  pollFrameCost,
  type PollBatch,
} from '../../src/protocol/poll-frames.ts';
import { parsePollProgress, type PollProgress } from '../../src/protocol/poll-session.ts';
import { OPCODE } from '../../src/relay/ports.ts';
import type { ChannelRecord } from '../conformance/channel.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { rawSocket } from '../support/http-sender.ts';
import { HttpSession, request, type PollHttpAnswer } from '../support/poll-http.ts';
import { PollListener } from '../support/poll-listener.ts';
import { startRelay, type RelayOptions, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';

const WINDOW_BYTES = 1_048_576;

function text(payload: string | Buffer): PollBatch['frames'][number] {
  return { opcode: 1, isFinal: true, payload: Buffer.from(payload) };
}

function textsOf({ frames }: PollBatch): readonly string[] {
  return frames.map(({ payload }) => Buffer.from(payload).toString());
}

interface Joined extends AsyncDisposable {
  readonly relay: TestRelay;
  /** Of a sender. */
  readonly session: HttpSession;
  /** Its listener. */
  readonly far: ChannelRecord;
}

async function join(options: RelayOptions = {}, clock?: FakeClock): Promise<Joined> {
  const relay = await startRelay(options, clock === undefined ? {} : { clock });
  const listener = await PollListener.open(relay);
  const opening = HttpSession.open(relay);
  const far = await listener.acceptNext();
  const session = await opening;
  return { relay, session, far, [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]() };
}

function say(far: ChannelRecord, what: string): void {
  far.channel.send(OPCODE.text, true, Buffer.from(what));
}

/** The session is as it was: what is sent in it arrives, both ways. */
async function expectAlive({ session, far }: Joined, seq = 1, ack = 0): Promise<void> {
  const before = far.messages().length;
  expect((await session.put({ seq, frames: [text('still here')] })).status).toBe(200);
  expect((await far.wholeMessages(before + 1)).at(-1)?.payload.toString()).toBe('still here');
  say(far, 'there too');
  expect(textsOf(await session.next({ turn: 1_000_000, ack })).at(-1)).toBe('there too');
}

function expectRefusal(answer: PollHttpAnswer, status: number, reason: string): void {
  expect([answer.status, answer.reason]).toEqual([status, reason]);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.text).toMatch(/"message":"[^"]+TrackingId:[\da-f-]{36}/);
}

describe('a poll', () => {
  test('brings all frames behind ack that there is credit for, again and again', async () => {
    await using joined = await join();
    const { session, far } = joined;
    for (const what of ['one', 'two', 'three']) say(far, what);
    await until('all are there', async () => {
      const batch = await session.next({ ack: 0, waitMs: 0 });
      return batch.frames.length === 3;
    });
    expect(textsOf(await session.next({ ack: 0 }))).toEqual(['one', 'two', 'three']);
    const later = await session.next({ ack: 2 });
    expect([later.seq, textsOf(later)]).toEqual([3, ['three']]);
    expect(await joined.relay.metric('halfway_poll_replayed_frames_total')).toBeGreaterThan(0);
  });

  test('brings no frame that there is no credit for', async () => {
    await using joined = await join();
    const { session, far } = joined;
    say(far, '12345');
    say(far, '67890');
    const cost = pollFrameCost(text('12345'));
    await until('all are there', async () => (await kept(joined)) >= 2 * cost);
    expect(textsOf(await session.next({ credit: cost - 1, waitMs: 0 }))).toEqual([]);
    expect(textsOf(await session.next({ credit: cost, waitMs: 0 }))).toEqual(['12345']);
    expect(textsOf(await session.next({ credit: 2 * cost, waitMs: 0 }))).toEqual([
      '12345',
      '67890',
    ]);
  });

  test('is held until there are frames, which then come together', async () => {
    await using joined = await join();
    const { session, far } = joined;
    const held = session.next();
    await untilHeld(joined);
    for (const what of ['one', 'two', 'three']) say(far, what);
    expect(textsOf(await held)).toEqual(['one', 'two', 'three']);
  });

  test('is answered after the time it asks for, and at last after that of the relay', async () => {
    const clock = new FakeClock();
    await using joined = await join({ pollHoldMs: 25_000 }, clock);
    const { session } = joined;
    const short = session.next({ waitMs: 2_000 });
    await untilHeld(joined);
    clock.advance(2_000);
    expect(await short).toEqual({ seq: 1, ack: 0, credit: WINDOW_BYTES, frames: [] });
    const long = session.next({ waitMs: 99_000 });
    await untilHeld(joined);
    clock.advance(24_999);
    await untilHeld(joined);
    clock.advance(1);
    expect((await long).frames).toEqual([]);
  });

  test('is answered at once when credit has grown by half a window', async () => {
    await using joined = await join();
    const { session, far } = joined;
    far.channel.pause();
    const payload = Buffer.alloc(60_000, 'x');
    await fillFarEnd(joined, payload);
    const held = session.next();
    await untilHeld(joined);
    far.channel.resume();
    const { ack, credit, frames } = await held;
    expect(frames).toEqual([]);
    expect(credit).toBeGreaterThanOrEqual(ack * pollFrameCost(text(payload)) + WINDOW_BYTES / 2);
  });

  test('a newer one takes over, and the older one is told so', async () => {
    await using joined = await join();
    const { session, far } = joined;
    const older = session.get({ turn: 5 });
    await untilHeld(joined);
    const newer = session.next({ turn: 6 });
    expectRefusal(await older, 409, 'session-superseded');
    const same = session.next({ turn: 6 });
    await expect(newer).rejects.toThrow('session-superseded');
    expectRefusal(await session.get({ turn: 5 }), 409, 'session-superseded');
    say(far, 'for the newest');
    expect(textsOf(await same)).toEqual(['for the newest']);
  });

  test('is held for nobody once its client has left, and loses nothing', async () => {
    await using joined = await join();
    const { session, far, relay } = joined;
    const leaving = new AbortController();
    const left = fetch(`${session.url}?turn=1&ack=0&credit=1000`, { signal: leaving.signal });
    await untilHeld(joined);
    leaving.abort();
    await expect(left).rejects.toThrow(/abort/);
    say(far, 'for whoever comes');
    expect(textsOf(await session.next({ turn: 1 }))).toEqual(['for whoever comes']);
    expect(await relay.metric('halfway_poll_sessions{role="sender"}')).toBe(1);
  });

  test.each([
    ['no query', ''],
    ['no turn', '?ack=0&credit=0'],
    ['a negative ack', '?turn=1&ack=-1&credit=0'],
    ['a credit that is no whole number', '?turn=1&ack=0&credit=1e9'],
    ['an absurd turn', '?turn=99999999999999999999&ack=0&credit=0'],
    ['a turn of 2^53', '?turn=9007199254740992&ack=0&credit=0'],
  ])('with %s is malformed', async (_what, query) => {
    await using joined = await join();
    expectRefusal(await request(joined.session.url + query), 400, 'poll-malformed');
    await expectAlive(joined);
  });

  test('that acknowledges what was never sent is refused', async () => {
    await using joined = await join();
    expectRefusal(await joined.session.get({ ack: 1 }), 400, 'ack-unknown');
    expectRefusal(await joined.session.get({ ack: 2 ** 53 - 1 }), 400, 'ack-unknown');
    await expectAlive(joined);
  });
});

describe('a post', () => {
  test('is taken once, however often and however much of it comes', async () => {
    await using joined = await join();
    const { session, far } = joined;
    const frames = ['one', 'two', 'three'].map(text);
    for (const batch of [
      { seq: 1, frames: frames.slice(0, 2) },
      { seq: 1, frames: frames.slice(0, 2) },
      { seq: 2, frames: frames.slice(1) },
      { seq: 1, frames },
    ]) {
      expect((await session.put(batch)).status).toBe(200);
    }
    const answer = await session.put({ seq: 4 });
    expect(JSON.parse(answer.text)).toEqual({
      ack: 3,
      credit: WINDOW_BYTES + 3 * POLL_FRAME_COST_BYTES + 11,
    });
    expect((await far.wholeMessages(3)).map(({ payload }) => payload.toString())).toEqual([
      'one',
      'two',
      'three',
    ]);
  });

  test.each<[string, number, string, Partial<PollBatch> | Uint8Array]>([
    ['nothing', 400, 'poll-malformed', new Uint8Array(0)],
    ['half a header', 400, 'poll-malformed', Buffer.alloc(27)],
    ['another version', 400, 'poll-malformed', Buffer.alloc(28, 2)],
    [
      'half a frame',
      400,
      'poll-malformed',
      encodePollBatch({ seq: 1, ack: 0, credit: 0, frames: [text('half')] }).subarray(0, 35),
    ],
    [
      'an unknown type of frame',
      400,
      'poll-malformed',
      withByte(encodePollBatch({ seq: 1, ack: 0, credit: 0, frames: [text('x')] }), 28, 0x89),
    ],
    ['seq 0', 400, 'poll-malformed', withByte(batchBytes(), 11, 0)],
    ['an absurd seq', 400, 'poll-malformed', withByte(batchBytes(), 4, 0xff)],
    ['an absurd ack', 400, 'poll-malformed', withByte(batchBytes(), 12, 0xff)],
    ['a gap', 409, 'sequence-gap', { seq: 2, frames: [text('x')] }],
    ['a gap to the end of numbers', 409, 'sequence-gap', { seq: 2 ** 53 - 1 }],
    ['an ack of what was never sent', 400, 'ack-unknown', { ack: 1, frames: [text('x')] }],
    [
      'a continuation of nothing',
      400,
      'frames-malformed',
      { frames: [{ opcode: 0, isFinal: true, payload: Buffer.from('x') }] },
    ],
    [
      'a message inside of another',
      400,
      'frames-malformed',
      { frames: [{ opcode: 1, isFinal: false, payload: Buffer.from('x') }, text('y')] },
    ],
    [
      'a frame behind a Close',
      400,
      'frames-malformed',
      { frames: [{ opcode: 8, isFinal: true, payload: Buffer.alloc(0) }, text('y')] },
    ],
    ['too much', 413, 'batch-too-large', Buffer.alloc(WINDOW_BYTES + 1)],
  ])('with %s is refused, and changes nothing', async (_what, status, reason, batch) => {
    await using joined = await join();
    expectRefusal(await joined.session.put(batch), status, reason);
    await expectAlive(joined);
    const series = `halfway_refusals_total{reason="${reason}",role="poll"}`;
    expect(await joined.relay.metric(series)).toBe(1);
  });

  test('a gap is answered with where to go on', async () => {
    await using joined = await join();
    const { session } = joined;
    await session.put({ frames: [text('one')] });
    const answer = await session.put({ seq: 5, frames: [text('five')] });
    expectRefusal(answer, 409, 'sequence-gap');
    expect(JSON.parse(answer.text)).toMatchObject({ ack: 1 });
  });

  test('beyond its credit is refused until there is more', async () => {
    await using joined = await join({ pollWindowBytes: 262_144 });
    const { session, far } = joined;
    far.channel.pause();
    const payload = Buffer.alloc(60_000, 'x');
    const frames = [1, 2, 3, 4].map(() => text(payload));
    await fillFarEnd(joined, payload);
    const { ack } = progressOf(await session.put({ seq: 1 }));
    const answer = await session.put({ seq: ack + 1, frames: [...frames, ...frames] });
    expectRefusal(answer, 409, 'credit-exceeded');
    const before = progressOf(answer);
    expect(before.ack).toBe(ack);
    far.channel.resume();
    await until('there is more', async () => {
      const now = progressOf(await session.put({ seq: ack + 1 }));
      return now.credit >= before.credit + 240_000;
    });
    expect((await session.put({ seq: ack + 1, frames })).status).toBe(200);
    await far.hadBytes((ack + 4) * payload.length);
  });

  test.each([
    ['with a length', 'Content-Length: 1000\r\n\r\n'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n3e8\r\n'],
  ])('that trickles, %s, is refused with 408, and changes nothing', async (_what, head) => {
    const clock = new FakeClock();
    await using joined = await join({ requestTimeoutMs: 10_000 }, clock);
    const { relay, session } = joined;
    const socket = await rawSocket(relay);
    const { pathname } = new URL(session.url);
    let answer = '';
    socket.setEncoding('latin1').on('data', (received: string) => (answer += received));
    const closed = once(socket, 'close');
    const tasks = clock.pendingTasks;
    socket.write(`POST ${pathname} HTTP/1.1\r\nHost: localhost\r\n${head}`, 'latin1');
    await until('its time runs', () => clock.pendingTasks > tasks);
    for (let i = 0; i < 4; i += 1) {
      socket.write('x', 'latin1');
      // Another request shows that the byte is read.
      await session.put({});
      clock.advance(2_500);
    }
    await within('the end', closed);
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(answer).toMatch('"reason":"body-stalled"');
    await expectAlive(joined);
  });

  test('in chunks that is too large is refused as soon as it is', async () => {
    await using joined = await join();
    const { relay, session } = joined;
    const socket = await rawSocket(relay);
    let answer = '';
    socket.setEncoding('latin1').on('data', (received: string) => (answer += received));
    const { pathname } = new URL(session.url);
    socket.write(
      `POST ${pathname} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
    for (let i = 0; i < 17; i += 1) socket.write(chunk);
    await within('the end', once(socket, 'close'));
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    await expectAlive(joined);
  });

  test('that breaks off is as if it had not been', async () => {
    await using joined = await join();
    const { relay, session } = joined;
    const socket = await rawSocket(relay);
    const { pathname } = new URL(session.url);
    socket.write(`POST ${pathname} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\nbegun`);
    await new Promise(resolve => void socket.write('', resolve));
    socket.destroy();
    await expectAlive(joined);
  });
});

describe('an id', () => {
  const POLL = '?turn=1&ack=0&credit=1';

  test.each<[string, (url: string) => string]>([
    ['forged', url => url.replace(/.{4}$/, '0000')],
    ['with another MAC', url => url.replace(/.(?=.{31}$)/, digit => (digit === '0' ? '1' : '0'))],
    ['of another relay', url => url.replace(/[\da-f]{64}$/, 'ab'.repeat(32))],
    ['with the tag of a node', url => `${url}01234567`],
    ['too short', url => url.slice(0, -1)],
    ['too long', url => `${url}/more`],
    ['absent', url => url.slice(0, -65)],
  ])('%s is known to nobody', async (_what, urlOf) => {
    await using joined = await join();
    const url = urlOf(joined.session.url);
    for (const [method, query] of [
      ['GET', POLL],
      ['POST', ''],
      ['DELETE', ''],
    ] as const) {
      const init = { method, ...(method === 'POST' ? { body: batchBytes() } : {}) };
      expectRefusal(await request(url + query, init), 404, 'session-unknown');
    }
    await expectAlive(joined);
  });

  test('of a session that was ended is gone', async () => {
    await using joined = await join();
    const { session, far } = joined;
    expect((await session.end()).status).toBe(204);
    expectRefusal(await session.get(), 410, 'session-gone');
    expectRefusal(await session.put({}), 410, 'session-gone');
    expectRefusal(await session.end(), 410, 'session-gone');
    await far.had('closed');
    expect(far.close()).toMatchObject({ code: 1001 });
  });

  test('of a session that nobody polled for is gone, and its other side is told', async () => {
    const clock = new FakeClock();
    const relay = await startRelay({}, { clock });
    await using _ = relay;
    const control = await PollListener.open(relay);
    const opening = HttpSession.open(relay);
    const { address } = await control.nextAccept();
    const rendezvous = await HttpSession.dial(relay, address);
    const session = await opening;
    for (let i = 0; i < 3; i += 1) {
      clock.advance(20_000);
      // Posts do not count, polls do.
      await session.put({});
      await rendezvous.next({ waitMs: 0 });
    }
    expectRefusal(await session.get(), 410, 'session-gone');
    const { frames } = await rendezvous.next({ turn: 99 });
    expect([...(frames[0]?.payload.subarray(0, 2) ?? [])]).toEqual([1001 >> 8, 1001 & 255]);
    expect(await relay.metric('halfway_poll_sessions_ended_total{reason="expired"}')).toBe(1);
  });

  test('of a session whose poll is held lives, however long that takes', async () => {
    const clock = new FakeClock();
    await using joined = await join({ pollHoldMs: 300_000 }, clock);
    const { session, far } = joined;
    const held = session.next();
    await untilHeld(joined);
    for (let i = 0; i < 4; i += 1) clock.advance(59_000);
    say(far, 'patience');
    expect(textsOf(await held)).toEqual(['patience']);
  });

  test.each(['PUT', 'PATCH', 'HEAD', 'OPTIONS'])('takes no %s', async method => {
    await using joined = await join();
    const answer = await request(joined.session.url, { method });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, POST, DELETE');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    await expectAlive(joined);
  });
});

describe('the end of a session', () => {
  test('comes when both Close frames are acknowledged, and repeats are still answered', async () => {
    const clock = new FakeClock();
    await using joined = await join({ lingerMs: 10_000 }, clock);
    const { session, far, relay } = joined;
    far.channel.close(4001, 'bye');
    const batch = await session.next();
    expect(batch.frames[0]?.opcode).toBe(8);
    const last = { ack: 1, frames: [closeFrame(4001)] };
    expect((await session.put(last)).status).toBe(200);
    await far.had('gone');
    // Its answer may have been lost.
    expect(JSON.parse((await session.put(last)).text)).toMatchObject({ ack: 1 });
    await until('nobody is left', () => relay.server.status().senders === 0);
    clock.advance(10_000);
    expectRefusal(await session.put(last), 410, 'session-gone');
    expect(await relay.metric('halfway_poll_sessions_ended_total{reason="closed"}')).toBe(1);
  });

  test('may be said to be understood with DELETE', async () => {
    await using joined = await join();
    const { session, far } = joined;
    await session.put({ frames: [closeFrame(1000)] });
    await far.had('closed');
    far.channel.close(1000, '');
    await session.next();
    await session.put({ seq: 2, ack: 1 });
    expect((await session.end()).status).toBe(204);
    expectRefusal(await session.get(), 410, 'session-gone');
    await far.had('gone');
  });

  test('leaves the connection open, and says nothing of a length', async () => {
    await using joined = await join();
    const { pathname } = new URL(joined.session.url);
    const socket = await rawSocket(joined.relay);
    const answers: string[] = [];
    socket.setEncoding('latin1').on('data', (received: string) => void answers.push(received));
    for (const [index, status] of ['204 No Content', '410 '].entries()) {
      socket.write(`DELETE ${pathname} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      await until('it is answered', () => answers.length > index);
      expect(answers[index]).toMatch(new RegExp(`^HTTP/1\\.1 ${status}`));
    }
    expect(answers[0]).not.toMatch(/content-length/i);
    socket.destroy();
  });

  test('is told to a poll that is held', async () => {
    await using joined = await join();
    const held = joined.session.get();
    await untilHeld(joined);
    await joined.session.end();
    expectRefusal(await held, 410, 'session-gone');
  });
});

function progressOf(answer: PollHttpAnswer): PollProgress {
  const progress = parsePollProgress(answer.text);
  if (progress === undefined) throw new Error(answer.text);
  return progress;
}

function closeFrame(code: number): PollBatch['frames'][number] {
  return { opcode: 8, isFinal: true, payload: Buffer.from([code >> 8, code & 255]) };
}

function batchBytes(): Uint8Array {
  return encodePollBatch({ seq: 1, ack: 0, credit: 0, frames: [] });
}

function withByte(bytes: Uint8Array, at: number, byte: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[at] = byte;
  return changed;
}

/** Waits until all three sessions hold a poll: the sender's, and both of its listener. */
async function untilHeld({ relay }: Joined): Promise<void> {
  await until('it is held', async () => (await relay.metric('halfway_poll_held_polls')) === 3);
}

async function kept({ relay }: Joined): Promise<number> {
  return relay.metric('halfway_poll_queued_bytes');
}

/** Posts until what the paused listener does not take fills the window. */
async function fillFarEnd({ session }: Joined, payload: Buffer): Promise<void> {
  let seq = 1;
  for (;;) {
    const answer = await session.put({ seq, frames: [text(payload)] });
    if (answer.status !== 200) return;
    seq += 1;
  }
}
