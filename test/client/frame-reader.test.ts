import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameReader } from '../../src/client/frame-reader.ts';
import { encodeFrame, OPCODES } from '../../src/protocol/frames.ts';

interface Message {
  readonly opcode: number;
  readonly payload: string;
}

/** What a reader makes of bytes that arrive in these pieces: whole messages, control frames, the fault. */
function read(pieces: readonly Uint8Array[]) {
  const messages: Message[] = [];
  const controls: Message[] = [];
  let open: { opcode: number; payload: string } | undefined;
  const reader = new FrameReader({
    data: (opcode, fin, payload) => {
      open ??= { opcode, payload: '' };
      open.payload += payload.toString('latin1');
      if (!fin) return;
      messages.push(open);
      open = undefined;
    },
    control: (opcode, payload) => controls.push({ opcode, payload: payload.toString('latin1') }),
  });
  for (const piece of pieces) {
    const fault = reader.push(Buffer.from(piece));
    if (fault !== undefined) return { messages, controls, fault };
  }
  return { messages, controls };
}

const text = (payload: string, isFinal = true, opcode: number = OPCODES.text) =>
  encodeFrame({ opcode, payload: Buffer.from(payload), isFinal });

describe('FrameReader', () => {
  test('hands on a frame as it arrives, and later parts of it as continuations', () => {
    const seen: unknown[] = [];
    const reader = new FrameReader({
      data: (opcode, fin, payload) => seen.push([opcode, fin, payload.toString()]),
      control: () => undefined,
    });
    const frame = Buffer.from(text('abcdef'));
    reader.push(frame.subarray(0, 5));
    reader.push(frame.subarray(5));
    expect(seen).toEqual([
      [OPCODES.text, false, 'abc'],
      [OPCODES.continuation, true, 'def'],
    ]);
  });

  test('reads the same, wherever the bytes are cut', () => {
    const stream = Buffer.concat([
      text('one'),
      text(''),
      text('x'.repeat(300), false),
      encodeFrame({ opcode: OPCODES.ping, payload: Buffer.from('p') }),
      text('y'.repeat(70_000), true, OPCODES.continuation),
      encodeFrame({ opcode: OPCODES.close, payload: Buffer.from([3, 232]) }),
    ]);
    const whole = read([stream]);
    expect(whole.messages.map(({ payload }) => payload.length)).toEqual([3, 0, 70_300]);
    expect(whole.controls.map(({ opcode }) => opcode)).toEqual([OPCODES.ping, OPCODES.close]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), sizes => {
        const pieces: Buffer[] = [];
        for (let at = 0, i = 0; at < stream.length && i < 400; i += 1) {
          const size = i === 399 ? stream.length : (sizes[i % sizes.length] ?? 1);
          pieces.push(stream.subarray(at, at + size));
          at += size;
        }
        expect(read(pieces)).toEqual(whole);
      }),
    );
  });

  test.each([
    ['a masked frame', encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('a'), mask: 1 })],
    ['a long control frame', new Uint8Array([0x89, 126, 0, 126])],
    ['a long control frame', new Uint8Array([0x09, 0])],
    ['a frame of an extension', new Uint8Array([0xc1, 0])],
    ['an unknown kind of frame', new Uint8Array([0x83, 0])],
    ['a continuation of nothing', text('a', true, OPCODES.continuation)],
    ['a message within another', Buffer.concat([text('a', false), text('b')])],
    ['a malformed length', new Uint8Array([0x82, 126, 0, 5])],
  ])('refuses %s', (fault, bytes) => {
    expect(read([bytes])).toMatchObject({ fault });
  });
});
