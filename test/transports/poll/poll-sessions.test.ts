import { describe, expect, test } from 'vitest';
import {
  POLL_FRAME_COST_BYTES,
  type PollBatch,
  type PollFrame,
} from '../../../src/protocol/poll-frames.ts';
import { isPollSessionId, type PollSessionId } from '../../../src/protocol/poll-session.ts';
import type { PollDoor, PollRefused } from '../../../src/relay/poll-door.ts';
import { findDoor } from '../../../src/transports/poll/poll-doors.ts';
import type { PollSession } from '../../../src/transports/poll/poll-session.ts';
import type { PollSessions, PollLimits } from '../../../src/transports/poll/poll-sessions.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { pollSessions } from '../../support/poll-doors.ts';

const BYTES_MAX = 1_000_000;

interface Opened {
  readonly clock: FakeClock;
  readonly sessions: PollSessions;
  readonly id: PollSessionId;
  readonly session: PollSession;
}

function open(limits: Partial<PollLimits> = {}, nodeTag = ''): Opened {
  const clock = new FakeClock();
  const { sessions } = pollSessions({ clock, limits, nodeTag });
  return { clock, sessions, ...openIn(sessions) };
}

function openIn(sessions: PollSessions): { id: PollSessionId; session: PollSession } {
  const reserved = sessions.reserve();
  if (reserved === undefined) throw new Error('no room');
  return reserved.open('sender');
}

/** What a poll was answered, if it was. */
interface Polled {
  answer?: PollBatch | PollRefused;
  readonly cancel: () => void;
}

function poll(
  { sessions, id }: Opened,
  question: { turn: number; ack?: number; credit?: number; waitMs?: number; from?: number },
): Polled {
  const polled: { answer?: PollBatch | PollRefused; cancel: () => void } = { cancel: () => {} };
  polled.cancel = sessions.poll(
    id,
    { ack: 0, credit: BYTES_MAX, bytesMax: BYTES_MAX, ...question },
    answer => {
      expect(polled.answer, 'answered once').toBeUndefined();
      polled.answer = answer;
    },
  );
  return polled;
}

function post({ sessions, id }: Opened, batch: Partial<PollBatch>): unknown {
  let answer: unknown;
  sessions.post(id, { seq: 1, ack: 0, credit: BYTES_MAX, frames: [], ...batch }, told => {
    answer = told;
  });
  return answer;
}

const turn = (): Promise<void> => new Promise(resolve => void setImmediate(resolve));

function frame(text: string): PollFrame {
  return { opcode: 1, isFinal: true, payload: Buffer.from(text) };
}

function withTag(id: string, tag: string): PollSessionId {
  const other = `${id.slice(0, 64)}${tag}`;
  if (!isPollSessionId(other)) throw new Error(other);
  return other;
}

const CLOSE: PollFrame = { opcode: 8, isFinal: true, payload: Buffer.alloc(0) };

describe('reserve()', () => {
  test('gives as many places as there are, and each again once it is free', () => {
    const { sessions } = pollSessions({ limits: { sessionsMax: 2 } });
    const first = sessions.reserve();
    const { id } = openIn(sessions);
    expect(sessions.reserve()).toBeUndefined();
    first?.release();
    first?.release();
    const second = sessions.reserve();
    expect(second).toBeDefined();
    expect(sessions.reserve()).toBeUndefined();
    sessions.end(id, () => {});
    expect(sessions.reserve()).toBeDefined();
    sessions.close();
  });
});

describe('poll()', () => {
  test('is answered once for all frames of a turn of the event loop', async () => {
    const opened = open();
    const polled = poll(opened, { turn: 1 });
    for (const text of ['a', 'b', 'c']) opened.session.send(1, true, Buffer.from(text));
    expect(polled.answer).toBeUndefined();
    await turn();
    expect(polled.answer).toMatchObject({ seq: 1, frames: [{}, {}, {}] });
  });

  test('cancelled is not answered any more, and nothing is lost with it', async () => {
    const opened = open();
    const polled = poll(opened, { turn: 1 });
    opened.session.send(1, true, Buffer.from('a'));
    polled.cancel();
    await turn();
    expect(polled.answer).toBeUndefined();
    expect(poll(opened, { turn: 2 }).answer).toMatchObject({ seq: 1, frames: [{}] });
  });

  test('with `from` asks for no frame twice, and refuses what would leave a gap', () => {
    const opened = open();
    for (const text of ['a', 'b']) opened.session.send(1, true, Buffer.from(text));
    expect(poll(opened, { turn: 1, from: 1 }).answer).toMatchObject({ seq: 1, frames: [{}, {}] });
    opened.session.send(1, true, Buffer.from('c'));
    expect(poll(opened, { turn: 1, from: 3 }).answer).toMatchObject({ seq: 3, frames: [{}] });
    expect(poll(opened, { turn: 1, from: 5 }).answer).toEqual({ reason: 'ack-unknown' });
    expect(opened.sessions.counters.replayedFrames).toBe(0);
  });

  test('refused changes nothing: neither turn nor credit nor the poll that is held', () => {
    const opened = open();
    const held = poll(opened, { turn: 5 });
    expect(poll(opened, { turn: 9, ack: 1 }).answer).toEqual({ reason: 'ack-unknown' });
    expect(poll(opened, { turn: 4, credit: 2 ** 40 }).answer).toEqual({
      reason: 'session-superseded',
    });
    expect(held.answer).toBeUndefined();
    poll(opened, { turn: 6 });
    expect(held.answer).toEqual({ reason: 'session-superseded' });
  });

  test('tells of credit that a lost answer told, within a second when the client may be out of it', () => {
    const opened = open({ windowBytes: 300_000 });
    const payload = Buffer.alloc(60_000);
    const frames = [1, 2, 3, 4].map(() => ({ opcode: 2, isFinal: true, payload }) as const);
    post(opened, { frames });
    // It waited unread when the post was answered.
    while (opened.session.incoming.read() !== undefined);
    opened.session.hasRead();
    const lost = poll(opened, { turn: 1 });
    const credit = 300_000 + 4 * (POLL_FRAME_COST_BYTES + payload.length);
    expect(lost.answer).toMatchObject({ credit });
    const next = poll(opened, { turn: 2 });
    expect(next.answer).toBeUndefined();
    opened.clock.advance(1_000);
    expect(next.answer).toMatchObject({ credit });
    post(opened, { seq: 5 });
    const sure = poll(opened, { turn: 3 });
    opened.clock.advance(24_999);
    expect(sure.answer).toBeUndefined();
  });
});

describe('a session', () => {
  test('without a poll expires, which its owner is told once', () => {
    const opened = open({ expiryMs: 60_000 });
    let lost = 0;
    opened.session.ownedBy({ arrived: () => {}, acknowledged: () => {}, lost: () => (lost += 1) });
    poll(opened, { turn: 1, waitMs: 0 });
    opened.clock.advance(59_000);
    poll(opened, { turn: 2, waitMs: 0 });
    opened.clock.advance(59_999);
    expect(lost).toBe(0);
    opened.clock.advance(2);
    expect(lost).toBe(1);
    expect(poll(opened, { turn: 3 }).answer).toEqual({ reason: 'session-gone' });
    expect(opened.sessions.counters.ended.expired).toBe(1);
  });

  test('that is over leaves no timer behind', () => {
    const opened = open();
    poll(opened, { turn: 1 });
    expect(opened.clock.pendingTasks).toBe(2);
    opened.sessions.end(opened.id, () => {});
    expect(opened.clock.pendingTasks).toBe(0);
  });

  test('that has ended as agreed is not lost, answers repeats, and goes after the linger time', () => {
    const opened = open({ lingerMs: 10_000 });
    let lost = 0;
    opened.session.ownedBy({ arrived: () => {}, acknowledged: () => {}, lost: () => (lost += 1) });
    opened.session.close(1000, '');
    expect(poll(opened, { turn: 1 }).answer).toMatchObject({ frames: [{ opcode: 8 }] });
    const held = poll(opened, { turn: 2, ack: 1 });
    expect(held.answer).toBeUndefined();
    expect(post(opened, { ack: 1, frames: [CLOSE] })).toMatchObject({ ack: 1 });
    expect(held.answer).toMatchObject({ ack: 1, frames: [] });
    expect(post(opened, { ack: 1, frames: [CLOSE] })).toMatchObject({ ack: 1 });
    opened.clock.advance(10_000);
    expect(post(opened, { ack: 1, frames: [CLOSE] })).toEqual({ reason: 'session-gone' });
    expect([lost, opened.clock.pendingTasks]).toEqual([0, 0]);
  });

  test('whose last acknowledgement comes by a poll answers that one at once', () => {
    const opened = open();
    opened.session.close(1000, '');
    poll(opened, { turn: 1 });
    post(opened, { frames: [CLOSE] });
    expect(poll(opened, { turn: 2, ack: 1 }).answer).toMatchObject({ ack: 1, frames: [] });
    const later = poll(opened, { turn: 3, ack: 1 });
    expect(later.answer, 'or its client would ask without end').toBeUndefined();
    opened.clock.advance(10_000);
    expect(later.answer).toEqual({ reason: 'session-gone' });
  });

  test('takes nothing of a batch that acknowledges too much', () => {
    const opened = open();
    expect(post(opened, { ack: 1, frames: [frame('a')] })).toMatchObject({ reason: 'ack-unknown' });
    expect(opened.session.progress.ack).toBe(0);
  });
});

describe('findDoor()', () => {
  const elsewhereTag = 'ffffffff';
  const door: PollDoor = { poll: () => () => {}, post: () => {}, end: () => {} };
  const elsewhere = {
    doorOf: (tag: string) => (tag === elsewhereTag ? door : undefined),
  };

  test('finds sessions here, and the nodes of others', () => {
    const { sessions, id } = open({}, '01234567');
    expect(findDoor(id, sessions, elsewhere)).toEqual({ door: sessions });
    expect(findDoor(withTag(id, elsewhereTag), sessions, elsewhere)).toEqual({ door });
    expect(findDoor(withTag(id, 'eeeeeeee'), sessions, elsewhere)).toEqual({
      reason: 'session-gone',
    });
    expect(findDoor(withTag(id, ''), sessions, elsewhere)).toEqual({ reason: 'session-gone' });
  });

  test('tells what is over from what never was', () => {
    const { sessions, id } = open({}, '01234567');
    sessions.end(id, () => {});
    expect(findDoor(id, sessions, elsewhere)).toEqual({ reason: 'session-gone' });
    const forged = withTag(
      id.replace(/^./, digit => (digit === '0' ? '1' : '0')),
      '01234567',
    );
    expect(findDoor(forged, sessions, elsewhere)).toEqual({ reason: 'session-unknown' });
  });
});
