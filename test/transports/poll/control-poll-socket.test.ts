import { expect, test, vi } from 'vitest';
import type { PollBatch, PollFrame } from '../../../src/protocol/poll-frames.ts';
import { ControlPollSocket } from '../../../src/transports/poll/control-poll-socket.ts';
import { controlChannel } from '../../support/control-channels.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { pollSessions } from '../../support/poll-doors.ts';

const LIMITS = { queueBytesMax: 1_000, messageBytesMax: 20 };

const turn = (): Promise<void> => new Promise(resolve => void setImmediate(resolve));

function open() {
  const clock = new FakeClock();
  const { sessions, outbox } = pollSessions({ clock });
  const reserved = sessions.reserve();
  if (reserved === undefined) throw new Error('no room');
  const { id, session } = reserved.open('listener');
  const { channel } = controlChannel(clock);
  const heard: string[] = [];
  vi.spyOn(channel, 'text').mockImplementation(text => void heard.push(`text ${text}`));
  vi.spyOn(channel, 'binary').mockImplementation(
    bytes => void heard.push(`binary ${Buffer.from(bytes).toString()}`),
  );
  vi.spyOn(channel, 'closed').mockImplementation(code => void heard.push(`closed ${code}`));
  const tooBig = vi.spyOn(channel, 'tooBig').mockImplementation(() => {
    heard.push('too big');
    socket.close(1009, 'too big');
  });
  const socket = new ControlPollSocket(session, outbox, LIMITS);
  socket.open(() => channel);
  let seq = 1;
  const post = (...frames: PollFrame[]): void => {
    sessions.post(id, { seq, ack: 0, credit: 0, frames }, () => {});
    seq += frames.length;
  };
  const sent = (): PollBatch['frames'] => session.outgoing.take(0, 1_000_000).frames;
  session.outgoing.acknowledge(0, 1_000_000);
  return { sessions, id, session, socket, heard, post, sent, tooBig };
}

function frame(opcode: 0 | 1 | 2, isFinal: boolean, text: string): PollFrame {
  return { opcode, isFinal, payload: Buffer.from(text) };
}

const CLOSE: PollFrame = { opcode: 8, isFinal: true, payload: Buffer.from([0x0f, 0xa1]) };

test('hands on whole messages of both types, however they were cut', () => {
  const { heard, post } = open();
  post(frame(1, false, 'on'), frame(0, false, ''), frame(0, true, 'e'), frame(2, false, 't'));
  post(frame(0, true, 'wo'), frame(1, true, 'Grüße'), frame(2, true, ''));
  expect(heard).toEqual(['text one', 'binary two', 'text Grüße', 'binary ']);
});

test('a message over the limit is said to be too big before it ends, and nothing after it', async () => {
  const { heard, post, session, sent } = open();
  post(frame(1, true, 'x'.repeat(20)), frame(1, false, 'x'.repeat(15)));
  post(frame(0, false, 'x'.repeat(6)));
  post(frame(0, false, 'x'), frame(0, true, 'x'), frame(1, true, 'small'));
  await turn();
  expect(heard).toEqual([`text ${'x'.repeat(20)}`, 'too big', 'closed 1009']);
  // What follows is read all the same, so that the client gets at its own Close.
  expect(session.incoming.waitingBytes).toBe(0);
  expect(sent().at(-1)?.opcode).toBe(8);
});

test('send() puts a body right behind its text, and nothing over the limit', () => {
  const { socket, sent } = open();
  expect(socket.send('{"a":1}', Buffer.from('body'))).toBe(true);
  expect(socket.send('{}')).toBe(true);
  expect(socket.send('{}', Buffer.alloc(300))).toBe(false);
  expect(socket.send('x'.repeat(700))).toBe(true);
  expect(socket.send('x'.repeat(100))).toBe(false);
  expect(
    sent()
      .slice(0, 3)
      .map(({ opcode, payload }) => [opcode, Buffer.from(payload).toString()]),
  ).toEqual([
    [1, '{"a":1}'],
    [2, 'body'],
    [1, '{}'],
  ]);
  expect(sent()).toHaveLength(4);
});

test("the listener's Close is answered with its code, and told once", () => {
  const { heard, post, sent, socket } = open();
  post(frame(1, false, 'unfinished'), CLOSE);
  expect(heard).toEqual(['closed 4001']);
  expect(sent()).toMatchObject([{ opcode: 8, payload: Uint8Array.of(0x0f, 0xa1) }]);
  expect(socket.send('{}')).toBe(false);
});

test('close() is told to the core, not from within, and what comes later is not', async () => {
  const { heard, post, socket } = open();
  socket.close(1001, 'moved');
  expect(heard).toEqual([]);
  await turn();
  post(frame(1, true, 'late'), CLOSE);
  expect(heard).toEqual(['closed 1001']);
});

test('the end of the session without a Close is told as 1006', () => {
  const { heard, sessions, id } = open();
  sessions.end(id, () => {});
  expect(heard).toEqual(['closed 1006']);
});
