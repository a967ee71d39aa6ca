import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FragmentReader } from '../../src/protocol/fragment-reader.ts';
import { encodeFrame, OPCODES } from '../../src/protocol/frames.ts';

interface Found {
  readonly opcode: number;
  readonly isFinal: boolean;
  readonly text: string;
}

describe('FragmentReader', () => {
  test('hands on a frame that comes in pieces as fragments of one message', () => {
    const bytes = encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('abcdef') });
    expect(readInPieces(bytes, [4, 2, 2]).found).toEqual([
      { opcode: OPCODES.text, isFinal: false, text: 'ab' },
      { opcode: OPCODES.continuation, isFinal: false, text: 'cd' },
      { opcode: OPCODES.continuation, isFinal: true, text: 'ef' },
    ]);
  });

  test('finds the same messages however the bytes were cut', () => {
    fc.assert(
      fc.property(messages, fc.array(fc.integer({ min: 1, max: 300 })), (sent, cuts) => {
        const bytes = Buffer.concat(sent.flatMap(encodeMessage));
        const { found, fault } = readInPieces(bytes, cuts);
        expect(fault).toBeUndefined();
        expect(assembled(found)).toEqual(
          sent.map(({ opcode, parts }) => ({ opcode, text: parts.join('') })),
        );
      }),
    );
  });

  test('hands on control frames whole, between the fragments of a message', () => {
    const bytes = Buffer.concat([
      encodeFrame({ opcode: OPCODES.binary, payload: Buffer.from('a'), isFinal: false }),
      encodeFrame({ opcode: OPCODES.ping, payload: Buffer.alloc(125, 'p') }),
      encodeFrame({ opcode: OPCODES.pong, payload: Buffer.alloc(0) }),
      encodeFrame({ opcode: OPCODES.continuation, payload: Buffer.from('b') }),
      encodeFrame({ opcode: OPCODES.close, payload: Buffer.from([3, 232]) }),
    ]);
    for (const size of [1, 7, 1_000]) {
      const { found, controls } = readInPieces(
        bytes,
        Array.from({ length: 200 }, () => size),
      );
      expect(assembled(found)).toEqual([{ opcode: OPCODES.binary, text: 'ab' }]);
      expect(controls.map(({ opcode, text }) => [opcode, text.length])).toEqual([
        [OPCODES.ping, 125],
        [OPCODES.pong, 0],
        [OPCODES.close, 2],
      ]);
    }
  });

  test('stop() ends the reading where it stands, and read() goes on from there', () => {
    const bytes = Buffer.concat(
      ['a', 'b', 'c'].map(text =>
        encodeFrame({ opcode: OPCODES.text, payload: Buffer.from(text) }),
      ),
    );
    let found = '';
    const reader: FragmentReader = new FragmentReader({
      fragment: (_opcode, _isFinal, payload) => {
        found += Buffer.from(payload).toString();
        reader.stop();
      },
      control: () => {},
    });
    const offsets = [0];
    for (let i = 0; i < 3; i += 1) offsets.push(reader.read(bytes, offsets.at(-1) ?? 0));
    expect(offsets).toEqual([0, 3, 6, 9]);
    expect(found).toBe('abc');
  });

  test.each([
    ['a mask', '81 81 00000000 00', 'a frame is masked'],
    ['a reserved bit', 'c1 00', 'a reserved bit is set'],
    ['opcode 3', '83 00', 'an opcode is unknown'],
    ['opcode 11', '8b 00', 'an opcode is unknown'],
    ['a ping in fragments', '09 00', 'a control frame is fragmented or too long'],
    ['a ping of 126 bytes', '89 7e007e', 'a control frame is fragmented or too long'],
    [
      'a continuation of nothing',
      '80 00',
      'a message begins within another, or goes on without one',
    ],
    [
      'a message within another',
      '0100 8100',
      'a message begins within another, or goes on without one',
    ],
    [
      'a length that is longer than it must be',
      '81 7e007d',
      'a length is not in its shortest form',
    ],
  ])('%s is a fault, in one piece or byte by byte', (_name, text, fault) => {
    const bytes = Buffer.from(text.replaceAll(' ', ''), 'hex');
    expect(readInPieces(bytes, [bytes.length]).fault).toBe(fault);
    expect(
      readInPieces(
        bytes,
        Array.from({ length: bytes.length }, () => 1),
      ).fault,
    ).toBe(fault);
  });

  test('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 100 }),
        fc.array(fc.integer({ min: 1, max: 9 })),
        (bytes, cuts) => {
          readInPieces(bytes, cuts);
        },
      ),
    );
  });
});

interface Sent {
  readonly opcode: 1 | 2;
  readonly parts: readonly string[];
}

const lengths = fc.oneof(fc.nat(200), fc.constantFrom(125, 126, 127, 65_535, 65_536, 65_537));
const messages: fc.Arbitrary<Sent[]> = fc.array(
  fc.record({
    opcode: fc.constantFrom<1 | 2>(1, 2),
    parts: fc.array(
      lengths.map(length => 'x'.repeat(length)),
      { minLength: 1, maxLength: 3 },
    ),
  }),
  { maxLength: 5 },
);

function encodeMessage({ opcode, parts }: Sent): Uint8Array[] {
  return parts.map((part, i) =>
    encodeFrame({
      opcode: i === 0 ? opcode : OPCODES.continuation,
      isFinal: i === parts.length - 1,
      payload: Buffer.from(part),
    }),
  );
}

/** The last cut takes all that is left. */
function readInPieces(
  bytes: Uint8Array,
  cuts: readonly number[],
): { readonly found: Found[]; readonly controls: Found[]; readonly fault: string | undefined } {
  const found: Found[] = [];
  const controls: Found[] = [];
  const reader = new FragmentReader({
    fragment: (opcode, isFinal, payload) =>
      found.push({ opcode, isFinal, text: Buffer.from(payload).toString() }),
    control: (opcode, payload) =>
      controls.push({ opcode, isFinal: true, text: Buffer.from(payload).toString('latin1') }),
  });
  let offset = 0;
  for (const cut of [...cuts, bytes.length]) {
    const piece = bytes.slice(offset, offset + cut);
    reader.read(piece, 0);
    offset += cut;
    if (offset >= bytes.length || reader.fault !== undefined) break;
  }
  return { found, controls, fault: reader.fault };
}

function assembled(found: readonly Found[]): { opcode: number; text: string }[] {
  const whole: { opcode: number; text: string }[] = [];
  let isInMessage = false;
  for (const { opcode, isFinal, text } of found) {
    const last = whole.at(-1);
    if (isInMessage && last !== undefined) {
      expect(opcode).toBe(OPCODES.continuation);
      last.text += text;
    } else whole.push({ opcode, text });
    isInMessage = !isFinal;
  }
  return whole;
}
