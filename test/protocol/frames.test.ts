import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  applyMask,
  encodeClosePayload,
  encodeFrame,
  encodeFrameHeader,
  FrameParser,
  isCloseCodeOnWire,
  OPCODES,
  parseClosePayload,
  parseFrameHeader,
} from '../../src/protocol/frames.ts';

const hello = new TextEncoder().encode('Hello');

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

/** The examples of RFC 6455, section 5.7. */
const EXAMPLES = [
  ['an unmasked text', '810548656c6c6f', { opcode: OPCODES.text, payload: hello }],
  [
    'a masked text',
    '818537fa213d7f9f4d5158',
    { opcode: OPCODES.text, payload: hello, mask: 0x37fa_213d },
  ],
  [
    'a first fragment',
    '010348656c',
    { opcode: OPCODES.text, payload: hello.subarray(0, 3), isFinal: false },
  ],
  ['a last fragment', '80026c6f', { opcode: OPCODES.continuation, payload: hello.subarray(3) }],
  ['a ping', '890548656c6c6f', { opcode: OPCODES.ping, payload: hello }],
  [
    'a masked pong',
    '8a8537fa213d7f9f4d5158',
    { opcode: OPCODES.pong, payload: hello, mask: 0x37fa_213d },
  ],
] as const;

describe('encodeFrame() and FrameParser', () => {
  test.each(EXAMPLES)('%s', (_name, hex, frame) => {
    expect(Buffer.from(encodeFrame(frame)).toString('hex')).toBe(hex);
    const [parsed, ...others] = new FrameParser().push(bytes(hex));
    expect(others).toEqual([]);
    expect(parsed).toMatchObject({
      opcode: frame.opcode,
      isFinal: !('isFinal' in frame),
      isMasked: 'mask' in frame,
      payload: new Uint8Array(frame.payload),
    });
  });

  test('give the same frames back, however the bytes are cut', () => {
    const frame = fc.record({
      opcode: fc.constantFrom(...Object.values(OPCODES)),
      isFinal: fc.boolean(),
      mask: fc.option(fc.integer({ min: 0, max: 0xffff_ffff }), { nil: undefined }),
      payload: fc.oneof(fc.uint8Array({ maxLength: 130 }), fc.constant(new Uint8Array(65_536))),
    });
    const run = fc.property(
      fc.array(frame, { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 20 }),
      (frames, cuts) => {
        const stream = Buffer.concat(
          frames.map(({ mask, ...rest }) =>
            encodeFrame(mask === undefined ? rest : { ...rest, mask }),
          ),
        );
        const parser = new FrameParser();
        const parsed = [];
        for (let at = 0, i = 0; at < stream.length; i += 1) {
          const size = cuts[i % cuts.length] ?? 1;
          parsed.push(...parser.push(stream.subarray(at, at + size)));
          at += size;
        }
        expect(parser.pendingBytes).toBe(0);
        expect(parsed.length).toBe(frames.length);
        for (const [i, { opcode, isFinal, payload }] of frames.entries()) {
          expect(parsed[i]).toMatchObject({ opcode, isFinal });
          expect(Buffer.compare(parsed[i]?.payload ?? new Uint8Array(1), payload)).toBe(0);
        }
      },
    );
    fc.assert(run, { numRuns: 50 });
  });
});

describe('parseFrameHeader()', () => {
  test.each([0, 125, 126, 65_535, 65_536, 2 ** 40])('reads a length of %i', payloadBytes => {
    for (const mask of [undefined, 0x0102_0304]) {
      const header = encodeFrameHeader(0x82, payloadBytes, mask);
      expect(parseFrameHeader(header)).toMatchObject({ payloadBytes, mask, isLengthValid: true });
      expect(parseFrameHeader(header)?.headerBytes).toBe(header.length);
      for (let length = 0; length < header.length; length += 1) {
        expect(parseFrameHeader(header.subarray(0, length))).toBeUndefined();
      }
    }
  });

  test.each(['827e007d', '827f000000000000ffff', '827f8000000000010000'])(
    'sees that the length of %s is no valid one',
    hex => {
      expect(parseFrameHeader(bytes(hex))?.isLengthValid).toBe(false);
    },
  );
});

describe('applyMask()', () => {
  test('undoes itself, and can go on within a payload', () => {
    const run = fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.nat(40),
      (payload, mask, cut) => {
        const whole = new Uint8Array(payload);
        applyMask(whole, mask);
        const parts = new Uint8Array(payload);
        applyMask(parts.subarray(0, cut), mask);
        applyMask(parts.subarray(cut), mask, Math.min(cut, parts.length));
        expect(parts).toEqual(whole);
        applyMask(whole, mask);
        expect(whole).toEqual(payload);
      },
    );
    fc.assert(run);
  });
});

describe('Close payloads', () => {
  test('come back as they were, and 1005 stands for none', () => {
    expect(parseClosePayload(encodeClosePayload(4000, 'größer'))).toEqual({
      code: 4000,
      reason: 'größer',
    });
    expect(encodeClosePayload()).toEqual(new Uint8Array(0));
    expect(parseClosePayload(new Uint8Array(0))).toEqual({ code: 1005, reason: '' });
    expect(parseClosePayload(Uint8Array.of(3))).toEqual({ code: 1005, reason: '' });
  });

  test('cut a long reason between two characters', () => {
    const payload = encodeClosePayload(1000, 'ü'.repeat(100));
    expect(payload.length).toBe(124);
    expect(parseClosePayload(payload).reason).toBe('ü'.repeat(61));
  });
});

describe('isCloseCodeOnWire()', () => {
  test('takes what RFC 6455 and IANA allow in a frame', () => {
    const allowed = [...Array.from({ length: 5100 }).keys()].filter(isCloseCodeOnWire);
    expect(allowed.filter(code => code < 3000)).toEqual([
      1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    ]);
    expect(allowed.filter(code => code >= 3000)).toEqual(
      Array.from({ length: 2000 }, (_, i) => 3000 + i),
    );
  });
});
