import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BATCH_HEADER_BYTES,
  encodePollBatch,
  encodePollBatchPieces,
  parsePollBatch,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
  type PollBatch,
  type PollFrame,
  writePollBatch,
} from '../../src/protocol/poll-frames.ts';

const HEADER = header({});

describe('encodePollBatch()', () => {
  test('writes what LONG-POLL.md draws', () => {
    const batch: PollBatch = {
      seq: 2 ** 32 + 7,
      ack: 5,
      credit: 2 ** 53 - 1,
      frames: [
        { opcode: 1, isFinal: false, payload: Buffer.from('ab') },
        { opcode: 0, isFinal: true, payload: Buffer.alloc(0) },
        { opcode: 8, isFinal: true, payload: Buffer.from([0x03, 0xe8, 0x78]) },
      ],
    };
    expect(Buffer.from(encodePollBatch(batch)).toString('hex')).toBe(
      '01000000' +
        '0000000100000007' +
        '0000000000000005' +
        '001fffffffffffff' +
        '01000000026162' +
        '8000000000' +
        '880000000303e878',
    );
  });

  test('and parsePollBatch() are each the other one backwards', () => {
    fc.assert(
      fc.property(batches, batch => {
        const parsed = parsePollBatch(encodePollBatch(batch));
        expect(plain(parsed)).toEqual(plain(batch));
      }),
    );
  });
});

describe('writePollBatch()', () => {
  test('writes the same into memory that was used before, and says how much', () => {
    fc.assert(
      fc.property(batches, batch => {
        const used = Buffer.alloc(1_048_576, 0xff);
        const length = writePollBatch(batch, used);
        expect(used.subarray(0, length).equals(encodePollBatch(batch))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });
});

describe('encodePollBatchPieces()', () => {
  test('gives the same bytes', () => {
    fc.assert(
      fc.property(batches, batch => {
        expect(Buffer.concat(encodePollBatchPieces(batch)).equals(encodePollBatch(batch))).toBe(
          true,
        );
      }),
    );
  });

  test('copies short payloads and hands on long ones as they are', () => {
    const long = Buffer.alloc(POLL_FRAME_PAYLOAD_BYTES_MAX, 'long');
    const frames: readonly PollFrame[] = [
      { opcode: 2, isFinal: true, payload: Buffer.from('short') },
      { opcode: 2, isFinal: true, payload: long },
      { opcode: 2, isFinal: true, payload: Buffer.from('short') },
      { opcode: 2, isFinal: true, payload: long },
    ];
    const pieces = encodePollBatchPieces({ seq: 1, ack: 0, credit: 0, frames });
    expect(pieces.map(piece => piece === long)).toEqual([false, true, false, true]);
    const whole = encodePollBatch({ seq: 1, ack: 0, credit: 0, frames });
    expect(Buffer.concat(pieces).equals(whole)).toBe(true);
  });
});

describe('parsePollBatch()', () => {
  test.each([
    ['nothing', '', 'at least 28 bytes'],
    ['part of a header', HEADER.slice(0, -2), 'at least 28 bytes'],
    ['another version', `02${HEADER.slice(2)}`, '1, 0, 0, 0'],
    ['reserved bytes that are set', `01000001${HEADER.slice(8)}`, '1, 0, 0, 0'],
    ['seq 0', header({ seq: '0000000000000000' }), 'numbered from 1'],
    ['seq 2^53', header({ seq: '0020000000000000' }), 'below 2^53'],
    ['ack 2^64-1', header({ ack: 'ffffffffffffffff' }), 'below 2^53'],
    ['credit 2^53', header({ credit: '0020000000000000' }), 'below 2^53'],
    ['half a frame header', `${HEADER}81000000`, 'ends inside a frame'],
    ['half a payload', `${HEADER}81000000026a`, 'ends inside a frame'],
    ['a ping', `${HEADER}8900000000`, 'unknown type'],
    ['opcode 3', `${HEADER}8300000000`, 'unknown type'],
    ['RSV bits', `${HEADER}c100000000`, 'unknown type'],
    ['a frame too long', `${HEADER}8200010001${'00'.repeat(65_537)}`, 'at most 65536 bytes'],
    ['a length near 2^32', `${HEADER}82ffffffff`, 'at most 65536 bytes'],
    ['a Close frame that is not final', `${HEADER}080000000203e8`, 'Close frame'],
    ['a Close frame of one byte', `${HEADER}880000000103`, 'Close frame'],
    ['a Close frame too long', `${HEADER}880000007e03e8${'61'.repeat(124)}`, 'Close frame'],
    ['more frames than a batch may have', HEADER + '8100000000'.repeat(8_193), 'at most 8192'],
    ['Close code 1005', `${HEADER}880000000203ed`, 'Close frame'],
    ['Close code 1006', `${HEADER}880000000203ee`, 'Close frame'],
    ['Close code 0', `${HEADER}88000000020000`, 'Close frame'],
  ])('refuses %s', (_what, hex, fault) => {
    expect(parsePollBatch(Buffer.from(hex, 'hex'))).toContain(fault);
  });

  test.each([
    ['no frames', HEADER, 0],
    ['a Close frame without a code', `${HEADER}8800000000`, 1],
    ['the longest Close frame', `${HEADER}880000007d03e8${'61'.repeat(123)}`, 1],
    ['as many frames as a batch may have', HEADER + '8100000000'.repeat(8_192), 8_192],
    ['the longest frame', `${HEADER}8200010000${'00'.repeat(65_536)}`, 1],
  ])('takes %s', (_what, hex, count) => {
    expect(parsePollBatch(Buffer.from(hex, 'hex'))).toMatchObject({
      seq: 1,
      ack: 0,
      credit: 65_536,
      frames: { length: count },
    });
  });

  test('never throws, and what it takes stays within the bytes', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .tuple(batches, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }))
        .map(([batch, changes]) => {
          const encoded = encodePollBatch(batch);
          for (const [at, value] of changes) encoded[at % encoded.length] = value;
          return encoded;
        }),
    );
    fc.assert(
      fc.property(bytes, input => {
        const batch = parsePollBatch(input);
        if (typeof batch === 'string') return;
        expect(Buffer.from(encodePollBatch(batch)).equals(input)).toBe(true);
      }),
    );
  });

  test('reads a batch that lies somewhere in a larger buffer', () => {
    const padded = Buffer.from(`ffffff${HEADER}810000000161ff`, 'hex');
    const inner = padded.subarray(3, 3 + BATCH_HEADER_BYTES + 6);
    expect(plain(parsePollBatch(inner))).toMatchObject({ frames: [{ hex: '61' }] });
  });
});

const frames: fc.Arbitrary<PollFrame> = fc.oneof(
  fc.record({
    opcode: fc.constantFrom(0 as const, 1 as const, 2 as const),
    isFinal: fc.boolean(),
    payload: fc.uint8Array({ maxLength: 40 }),
  }),
  fc.record({
    opcode: fc.constant(2 as const),
    isFinal: fc.boolean(),
    payload: fc.constant(new Uint8Array(POLL_FRAME_PAYLOAD_BYTES_MAX)),
  }),
  fc.constant({ opcode: 8 as const, isFinal: true, payload: new Uint8Array([0x0f, 0xa0, 0x61]) }),
);

const counts = fc.nat({ max: Number.MAX_SAFE_INTEGER });

const batches: fc.Arbitrary<PollBatch> = fc.record({
  seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  ack: counts,
  credit: counts,
  frames: fc.array(frames, { maxLength: 5 }),
});

function plain(batch: PollBatch | string): unknown {
  if (typeof batch === 'string') return batch;
  return {
    ...batch,
    frames: batch.frames.map(({ opcode, isFinal, payload }) => ({
      opcode,
      isFinal,
      hex: Buffer.from(payload).toString('hex'),
    })),
  };
}

/** The first 28 bytes in hex. */
function header({
  seq = '0000000000000001',
  ack = '0000000000000000',
  credit = '0000000000010000',
}: {
  readonly seq?: string;
  readonly ack?: string;
  readonly credit?: string;
}): string {
  return `01000000${seq}${ack}${credit}`;
}
