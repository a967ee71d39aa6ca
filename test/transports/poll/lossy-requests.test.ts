// Requests that are lost before or behind their session, repeated, and late: nothing is lost, doubled or out of order.
import { expect, test } from 'vitest';
import { IncomingFrames } from '../../../src/protocol/poll-incoming.ts';
import type { PollBatch } from '../../../src/protocol/poll-frames.ts';
import { OutgoingFrames } from '../../../src/protocol/poll-outgoing.ts';
import type { PollProgress } from '../../../src/protocol/poll-session.ts';
import { OPCODE } from '../../../src/relay/ports.ts';
import { PollChannel } from '../../../src/transports/poll/poll-channel.ts';
import { ChannelRecord } from '../../conformance/channel.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { pollSessions } from '../../support/poll-doors.ts';

const WINDOW_BYTES = 262_144;
const BUFFER_BYTES = 100_000;
const MESSAGES = 200;

/** Repeatable: numbers from 0 to 1. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
}

const turn = (): Promise<void> => new Promise(resolve => void setImmediate(resolve));

/** `number` and as many bytes as its turn brings. */
function message(number: number, chance: () => number): Buffer {
  const bytes = Buffer.alloc(4 + Math.floor(chance() ** 4 * 80_000), number & 255);
  bytes.writeUInt32BE(number);
  return bytes;
}

test.each(Array.from({ length: 8 }, (_, seed) => seed + 1))(
  'history %d: every message arrives once and in order, both ways',
  async seed => {
    const chance = numbers(seed);
    const clock = new FakeClock();
    const { sessions, outbox } = pollSessions({
      clock,
      limits: { windowBytes: WINDOW_BYTES, holdMs: 5_000 },
    });
    const reserved = sessions.reserve();
    if (reserved === undefined) throw new Error('no room');
    const { id, session } = reserved.open('sender');
    const channel = new ChannelRecord(new PollChannel(session, outbox, BUFFER_BYTES));
    const outgoing = new OutgoingFrames();
    const incoming = new IncomingFrames(WINDOW_BYTES);
    outgoing.acknowledge(0, WINDOW_BYTES);
    const received: number[] = [];
    let [queued, queuedBytes, given, polls, isAsking] = [0, 0, 0, 0, false];
    let parts = 0;
    let isOver = false;

    const know = (answer: PollProgress | { readonly reason: string }): void => {
      if ('reason' in answer) {
        expect(answer.reason).toMatch(isOver ? /gone/ : /superseded|credit-exceeded/);
        return;
      }
      expect(outgoing.acknowledge(answer.ack, answer.credit)).toBe(true);
    };
    const take = (batch: PollBatch): void => {
      expect(incoming.accept(batch)).toBeUndefined();
      know(batch);
      for (let frame = incoming.read(); frame !== undefined; frame = incoming.read()) {
        if (parts === 0) received.push(Buffer.from(frame.payload).readUInt32BE());
        parts = frame.isFinal ? 0 : parts + 1;
      }
    };
    /** A poll or its answer may be lost; then another one follows. */
    const poll = (): void => {
      if (isAsking || chance() < 0.2) return;
      isAsking = true;
      polls += 1;
      const isLost = chance() < 0.3;
      const question = { turn: polls, ack: incoming.received, credit: incoming.credit };
      const cancel = sessions.poll(id, { ...question, bytesMax: 200_000 }, answer => {
        isAsking = false;
        if (isLost) return;
        if ('reason' in answer) know(answer);
        else take(answer);
      });
      if (chance() < 0.2 && isAsking) {
        cancel();
        isAsking = false;
      }
    };
    const old: PollBatch[] = [];
    /** A post or its answer may be lost, and copies of old ones come by. */
    const post = (): void => {
      const batch: PollBatch = {
        ...outgoing.take(0, 100_000),
        ack: incoming.received,
        credit: incoming.credit,
      };
      old.push(batch);
      if (chance() < 0.3) return;
      const isLost = chance() < 0.3;
      sessions.post(id, batch, answer => {
        if (!isLost) know(answer);
      });
      const stray = old[Math.floor(chance() * old.length)];
      if (stray !== undefined && chance() < 0.2) sessions.post(id, stray, () => {});
    };

    let steps = 0;
    const isDone = (): boolean =>
      received.length === MESSAGES && queued === MESSAGES && channel.bytesHad === queuedBytes;
    while (!isDone()) {
      steps += 1;
      expect(steps, `${received.length} and ${channel.bytesHad} B`).toBeLessThan(20_000);
      if (queued < MESSAGES && outgoing.keptBytes < BUFFER_BYTES && chance() < 0.5) {
        const next = message(queued, chance);
        outgoing.push(OPCODE.binary, true, next);
        queued += 1;
        queuedBytes += next.length;
      }
      if (given < MESSAGES && chance() < 0.5 && session.outgoing.keptBytes < BUFFER_BYTES) {
        channel.channel.send(OPCODE.binary, true, message(given, chance));
        given += 1;
      }
      if (chance() < 0.1) channel.channel.pause();
      if (chance() < 0.3) channel.channel.resume();
      poll();
      post();
      if (chance() < 0.5) await turn();
      clock.advance(chance() * 500);
    }
    const order = Array.from({ length: MESSAGES }, (_, number) => number);
    expect(received).toEqual(order);
    expect(channel.messages().map(({ payload }) => payload.readUInt32BE())).toEqual(order);
    expect(channel.types).not.toContain('gone');
    expect(sessions.counters.replayedFrames).toBeGreaterThan(0);
    isOver = true;
    sessions.close();
  },
);
