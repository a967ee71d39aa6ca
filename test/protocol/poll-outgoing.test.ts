import { describe, expect, test } from 'vitest';
import {
  POLL_FRAME_COST_BYTES,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
} from '../../src/protocol/poll-frames.ts';
import { OutgoingFrames } from '../../src/protocol/poll-outgoing.ts';

const PLENTY = Number.MAX_SAFE_INTEGER;

describe('OutgoingFrames', () => {
  test('numbers frames from 1 and keeps them until they are acknowledged', () => {
    const frames = outgoing('a', 'b', 'c');
    expect(taken(frames, 1)).toEqual({ seq: 1, texts: ['a', 'b', 'c'] });
    expect(frames.acknowledge(2, 0)).toBe(true);
    expect(frames.acked).toBe(2);
    expect(frames.keptBytes).toBe(POLL_FRAME_COST_BYTES + 1);
    expect(taken(frames, 1)).toEqual({ seq: 3, texts: ['c'] });
    expect(taken(frames, 4)).toEqual({ seq: 4, texts: [] });
    expect(frames.acknowledge(3, 0)).toBe(true);
    expect(frames.keptBytes).toBe(0);
    frames.push(1, true, Buffer.from('d'));
    expect(taken(frames, 1)).toEqual({ seq: 4, texts: ['d'] });
  });

  test('acknowledge() of what was never sent is refused and changes nothing', () => {
    const frames = outgoing('a', 'b');
    frames.take(1, 6);
    expect(frames.acknowledge(2, PLENTY)).toBe(false);
    expect(frames.acked).toBe(0);
    expect(frames.acknowledge(1, PLENTY)).toBe(true);
    expect(frames.acknowledge(Number.MAX_SAFE_INTEGER, PLENTY)).toBe(false);
  });

  test('older news changes nothing, in whatever order acknowledgements come', () => {
    const frames = new OutgoingFrames();
    for (const text of ['a', 'b', 'c']) frames.push(1, true, Buffer.from(text));
    const costOf1 = POLL_FRAME_COST_BYTES + 1;
    frames.acknowledge(0, 2 * costOf1);
    frames.take(1, PLENTY);
    frames.acknowledge(2, 2 * costOf1);
    expect(frames.acknowledge(1, costOf1)).toBe(true);
    expect(frames.acked).toBe(2);
    expect(frames.has(3)).toBe(false);
    frames.acknowledge(0, 3 * costOf1);
    expect(frames.has(3)).toBe(true);
  });

  test('take() stops at the credit, exactly', () => {
    const frames = new OutgoingFrames();
    frames.push(2, true, new Uint8Array(95));
    frames.push(2, true, new Uint8Array(95));
    expect(frames.has(1)).toBe(false);
    const cost = 2 * (POLL_FRAME_COST_BYTES + 95);
    frames.acknowledge(0, cost - 1);
    expect(frames.take(1, PLENTY).frames).toHaveLength(1);
    expect(frames.has(2)).toBe(false);
    frames.acknowledge(0, cost);
    expect(frames.take(1, PLENTY).frames).toHaveLength(2);
  });

  test('take() stops at bytesMax, but gives at least one frame', () => {
    const frames = outgoing('aaaaa', 'bbbbb', 'ccccc');
    expect(taken(frames, 1, 20)).toEqual({ seq: 1, texts: ['aaaaa', 'bbbbb'] });
    expect(taken(frames, 1, 19)).toEqual({ seq: 1, texts: ['aaaaa'] });
    expect(taken(frames, 3, 0)).toEqual({ seq: 3, texts: ['ccccc'] });
  });

  test('take() gives no more frames than a batch may have', () => {
    const frames = outgoing();
    for (let count = 0; count < 8_193; count += 1) frames.push(1, true, new Uint8Array(0));
    expect(frames.take(1, PLENTY).frames).toHaveLength(8_192);
    expect(frames.take(8_193, PLENTY).frames).toHaveLength(1);
  });

  test('push() cuts a long fragment into parts of one message', () => {
    const frames = new OutgoingFrames();
    frames.acknowledge(0, PLENTY);
    const payload = new Uint8Array(2 * POLL_FRAME_PAYLOAD_BYTES_MAX).fill(7);
    frames.push(2, false, payload);
    frames.push(0, true, payload.subarray(1));
    expect(
      frames
        .take(1, PLENTY)
        .frames.map(frame => [frame.opcode, frame.isFinal, frame.payload.length]),
    ).toEqual([
      [2, false, 65_536],
      [0, false, 65_536],
      [0, false, 65_536],
      [0, true, 65_535],
    ]);
  });

  test('push() keeps a copy: the memory it was given, a Buffer too, may change afterwards', () => {
    const frames = new OutgoingFrames();
    frames.acknowledge(0, PLENTY);
    const payload = Buffer.alloc(POLL_FRAME_PAYLOAD_BYTES_MAX + 1, 'a');
    frames.push(2, true, payload);
    payload.fill('b');
    for (const frame of frames.take(1, PLENTY).frames) {
      expect(frame.payload.every(byte => byte === 0x61)).toBe(true);
    }
  });

  test('nothing follows a Close frame, and it is delivered when it is acknowledged', () => {
    const frames = outgoing('a');
    frames.close(1000, 'done');
    frames.close(1011, 'again');
    frames.push(1, true, Buffer.from('late'));
    const { frames: all } = frames.take(1, PLENTY);
    expect(all.map(frame => frame.opcode)).toEqual([1, 8]);
    expect(Buffer.from(all[1]?.payload ?? []).toString('latin1')).toBe('\x03\xe8done');
    expect([frames.isClosed, frames.isDelivered]).toEqual([true, false]);
    frames.acknowledge(2, 0);
    expect(frames.isDelivered).toBe(true);
  });

  test('close() with 1005 has no code, and refuses to send what never may be sent', () => {
    const frames = outgoing();
    expect(() => frames.close(1006, '')).toThrow('close code');
    frames.close(1005, 'dropped');
    expect(frames.take(1, PLENTY).frames.map(frame => frame.payload.length)).toEqual([0]);
  });

  test('200,000 small frames are taken and acknowledged one by one', () => {
    const frames = outgoing();
    for (let count = 0; count < 200_000; count += 1) frames.push(1, true, new Uint8Array(0));
    for (let number = 1; number <= 200_000; number += 1) {
      frames.take(number, 1);
      frames.acknowledge(number, 0);
    }
    expect([frames.acked, frames.keptBytes]).toEqual([200_000, 0]);
  });
});

function outgoing(...texts: readonly string[]): OutgoingFrames {
  const frames = new OutgoingFrames();
  frames.acknowledge(0, PLENTY);
  for (const text of texts) frames.push(1, true, Buffer.from(text));
  return frames;
}

function taken(frames: OutgoingFrames, from: number, bytesMax = PLENTY): unknown {
  const batch = frames.take(from, bytesMax);
  return {
    seq: batch.seq,
    texts: batch.frames.map(frame => Buffer.from(frame.payload).toString()),
  };
}
