import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PayloadMemory } from '../../src/protocol/payload-memory.ts';
import { POLL_FRAME_PAYLOAD_BYTES_MAX } from '../../src/protocol/poll-frames.ts';
import { OutgoingFrames } from '../../src/protocol/poll-outgoing.ts';

const LONG = POLL_FRAME_PAYLOAD_BYTES_MAX;

describe('PayloadMemory', () => {
  test('copies what it is given, long or short', () => {
    const memory = new PayloadMemory(LONG);
    const bytes = Buffer.from('a'.repeat(LONG) + 'b'.repeat(LONG));
    for (const [start, end] of [
      [0, 5],
      [LONG - 5, LONG + 5],
      [LONG, 2 * LONG],
    ] as const) {
      const copy = memory.copy(bytes, start, end);
      expect(bytes.subarray(start, end).equals(copy)).toBe(true);
      expect(copy.buffer).not.toBe(bytes.buffer);
    }
  });

  test('uses memory again that was given back, and not before', () => {
    const memory = new PayloadMemory(10 * LONG);
    const first = memory.copy(Buffer.alloc(LONG, 1), 0, LONG);
    const second = memory.copy(Buffer.alloc(LONG, 2), 0, LONG);
    expect(second.buffer).not.toBe(first.buffer);
    memory.release(first);
    const third = memory.copy(Buffer.alloc(LONG, 3), 0, LONG / 2);
    expect(third.buffer).toBe(first.buffer);
    expect([third.length, third[0], second[0]]).toEqual([LONG / 2, 3, 2]);
  });

  test('holds no more ready than it may', () => {
    const memory = new PayloadMemory(2 * LONG);
    const copies = [1, 2, 3].map(value => memory.copy(Buffer.alloc(LONG, value), 0, LONG));
    for (const copy of copies) memory.release(copy);
    expect(memory.freeBytes).toBe(2 * LONG);
  });

  test('has nothing to do with short payloads', () => {
    const memory = new PayloadMemory(LONG);
    memory.release(memory.copy(Buffer.from('short'), 0, 5));
    expect(memory.freeBytes).toBe(0);
  });
});

describe('OutgoingFrames with memory', () => {
  test('two that share it never get into each other’s payloads', () => {
    const step = fc.record({
      who: fc.integer({ min: 0, max: 1 }),
      length: fc.constantFrom(0, 10, LONG / 4, LONG, LONG + LONG / 2),
      ack: fc.integer({ min: 0, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), steps => {
        const memory = new PayloadMemory(4 * LONG);
        const ends = [0, 1].map(() => ({
          frames: new OutgoingFrames(memory),
          pushed: new Array<number>(),
        }));
        for (const [index, { who, length, ack }] of steps.entries()) {
          const end = ends[who];
          if (end === undefined) continue;
          end.frames.push(2, true, Buffer.alloc(length, index));
          const parts = Math.max(1, Math.ceil(length / LONG));
          for (let part = 0; part < parts; part += 1) end.pushed.push(index);
          end.frames.acknowledge(0, Number.MAX_SAFE_INTEGER);
          for (const { frames, pushed } of ends) {
            const taken = frames.take(1, Number.MAX_SAFE_INTEGER);
            for (const [at, { payload }] of taken.frames.entries()) {
              const value = pushed[taken.seq - 1 + at];
              expect(payload.every(byte => byte === value)).toBe(true);
            }
          }
          end.frames.acknowledge(Math.min(end.frames.acked + ack, end.pushed.length), 0);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('gives back what was acknowledged, once', () => {
    const memory = new PayloadMemory(10 * LONG);
    const frames = new OutgoingFrames(memory);
    for (let index = 0; index < 3; index += 1) frames.push(2, true, Buffer.alloc(LONG));
    frames.acknowledge(0, Number.MAX_SAFE_INTEGER);
    frames.take(1, Number.MAX_SAFE_INTEGER);
    frames.acknowledge(2, 0);
    frames.acknowledge(2, 0);
    expect(memory.freeBytes).toBe(2 * LONG);
  });
});
