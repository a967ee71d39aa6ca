import { expect, test, vi } from 'vitest';
import { OPCODE, type PairEnd } from '../../src/relay/ports.ts';
import { spliceFragments } from '../../src/relay/splice.ts';
import { FakeChannel } from '../support/relay-doubles.ts';

function splice() {
  const sender = new FakeChannel();
  const listener = new FakeChannel();
  const counters = new Float64Array(4);
  const onEnd = vi.fn<(end: PairEnd) => void>();
  spliceFragments(sender, listener, counters, onEnd);
  expect([sender.calls.splice(0), listener.calls.splice(0)]).toEqual([['resume'], ['resume']]);
  return { sender, listener, counters, onEnd };
}

const SIDES = [
  ['sender', 'listener'],
  ['listener', 'sender'],
] as const;

test.each(SIDES)('forwards fragments of the %s as they are, and counts them', (own, other) => {
  const pair = splice();
  pair[own].receiver?.fragment(OPCODE.text, false, Buffer.from('ab'));
  pair[own].receiver?.fragment(OPCODE.continuation, true, Buffer.from('c'));
  pair[own].receiver?.fragment(OPCODE.binary, true, new Uint8Array(0));
  expect(pair[other].calls).toEqual(['send 1 more ab', 'send 0 fin c', 'send 2 fin ']);
  expect([...pair.counters]).toEqual(own === 'sender' ? [3, 0, 3, 0] : [0, 3, 0, 3]);
});

test.each(SIDES)('pauses the %s while the other takes no more, and only it', (own, other) => {
  const pair = splice();
  pair[other].takesMore = false;
  pair[own].receiver?.fragment(OPCODE.binary, true, Buffer.from('x'));
  expect(pair[own].calls).toEqual(['pause']);
  expect(pair[other].calls).toEqual(['send 2 fin x']);
  pair[other].receiver?.drained();
  expect(pair[own].calls).toEqual(['pause', 'resume']);
});

test.each(SIDES)('a Close of the %s ends its own direction only', (own, other) => {
  const pair = splice();
  pair[own].receiver?.closed(1000, 'Shutdown');
  expect(pair[other].calls).toEqual(['close 1000 Shutdown']);
  pair[other].receiver?.fragment(OPCODE.text, true, Buffer.from('still'));
  expect(pair[own].calls).toEqual(['send 1 fin still']);
  expect(pair.onEnd).not.toHaveBeenCalled();
  pair[other].receiver?.closed(1000, 'done');
  expect(pair[own].calls).toEqual(['send 1 fin still', 'close 1000 done']);
  pair[own].receiver?.gone();
  pair[other].receiver?.gone();
  expect(pair.onEnd.mock.calls).toEqual([
    [
      {
        sender: { closeCode: 1000, cause: 'close' },
        listener: { closeCode: 1000, cause: 'close' },
        first: own,
        bytesToListener: own === 'listener' ? 5 : 0,
        bytesToSender: own === 'sender' ? 5 : 0,
      },
    ],
  ]);
});

test.each(SIDES)(
  'a Close of the %s may be answered as long as the session that sent it is there',
  (own, other) => {
    const pair = splice();
    const closes = vi.spyOn(pair[other], 'close');
    pair[own].receiver?.closed(1000, 'Shutdown');
    expect(closes.mock.calls).toEqual([[1000, 'Shutdown', true]]);
    pair[own].receiver?.gone();
    expect(closes.mock.calls.slice(1)).toEqual([[1001, 'The other side went away']]);
  },
);

test.each(SIDES)('a %s that is lost ends the other with 1001', (own, other) => {
  const pair = splice();
  pair[own].end();
  expect(pair[other].calls[0]).toMatch(/^close 1001 /);
  expect(pair.onEnd).not.toHaveBeenCalled();
  pair[other].end(1001);
  expect(pair.onEnd).toHaveBeenCalledTimes(1);
  expect(pair.onEnd.mock.calls[0]?.[0]).toMatchObject({
    [own]: { closeCode: 1006, cause: 'lost' },
    [other]: { closeCode: 1001, cause: 'close' },
    first: own,
  });
});

test.each(SIDES)(
  'tells the end once when the other ends inside the call that closes it, the %s first',
  (own, other) => {
    const lost = splice();
    lost[other].endsOnClose = true;
    lost[own].end();
    expect(lost.onEnd).toHaveBeenCalledTimes(1);

    const closed = splice();
    closed.sender.endsOnClose = true;
    closed.listener.endsOnClose = true;
    closed[own].end(1000, 'bye');
    expect(closed.onEnd).toHaveBeenCalledTimes(1);
    expect(closed.onEnd.mock.calls[0]?.[0].first).toBe(own);
  },
);

test.each(SIDES)('reads a paused writer again when the %s it waited for is gone', (own, other) => {
  for (const code of [1006, 1000]) {
    const pair = splice();
    pair[own].takesMore = false;
    pair[other].receiver?.fragment(OPCODE.binary, true, Buffer.from('x'));
    expect(pair[other].calls).toEqual(['pause']);
    pair[own].end(code);
    expect(pair[other].calls.at(-1)).toBe('resume');
  }
});
