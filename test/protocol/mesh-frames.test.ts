import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  commonVersion,
  decodeRecord,
  encodeMeshFrame,
  encodeRecord,
  MESH_MESSAGE_BYTES_MAX,
  MESH_VERSIONS,
  MeshFrameDecoder,
  RECORD_BYTES_MAX,
  RECORD_TYPES,
  ROLES,
  STREAM_RECORD_BYTES_MAX,
  type FrameFault,
  type MeshFrame,
  type RecordType,
} from '../../src/protocol/mesh-frames.ts';
import {
  MESH_MESSAGES,
  meshHeadOf,
  meshKindOf,
  meshMessage,
} from '../../src/protocol/mesh-messages.ts';

const NOTHING = new Uint8Array(0);

/** Of the greatest version this build speaks. A change of shape is a change of MESH_VERSIONS: add a line. */
const SHAPES_BY_VERSION: Record<number, string> = {
  1: 'b882e43be0c62430',
  2: '606f0c93053e07f4',
};

describe('MESH_VERSIONS', () => {
  test('changes whenever the shapes on the wire do', () => {
    const shapes = {
      records: RECORD_TYPES,
      roles: ROLES,
      limits: [RECORD_BYTES_MAX, STREAM_RECORD_BYTES_MAX, MESH_MESSAGE_BYTES_MAX],
      messages: MESH_MESSAGES,
      record: hex(encodeRecord('proof', Uint8Array.of(1, 2, 3))),
      frame: hex(encoded({ ...FRAME, kind: 255, correlation: 0x01020304 })),
    };
    const hash = createHash('sha256').update(JSON.stringify(shapes)).digest('hex').slice(0, 16);
    expect(hash).toBe(SHAPES_BY_VERSION[MESH_VERSIONS.max]);
  });

  test('keeps the version before it, so that nodes can be upgraded one by one', () => {
    expect(MESH_VERSIONS.min).toBeLessThanOrEqual(Math.max(1, MESH_VERSIONS.max - 1));
  });
});

describe('commonVersion()', () => {
  test.each([
    [{ min: 1, max: 1 }, { min: 1, max: 1 }, 1],
    [{ min: 1, max: 2 }, { min: 2, max: 3 }, 2],
    [{ min: 1, max: 3 }, { min: 1, max: 2 }, 2],
    [{ min: 1, max: 1 }, { min: 2, max: 3 }, undefined],
  ])('of %j and %j is %s', (a, b, version) => {
    expect(commonVersion(a, b)).toBe(version);
    expect(commonVersion(b, a)).toBe(version);
  });
});

describe('records', () => {
  test('have the layout that is drawn', () => {
    expect(encodeRecord('hello', Uint8Array.of(0xaa, 0xbb))).toEqual(
      bytesOf('48576d01 01 0002 aabb'),
    );
  });

  test('come back as they went, with the bytes behind them left alone', () => {
    fc.assert(
      fc.property(recordType, fc.uint8Array({ maxLength: RECORD_BYTES_MAX }), (type, payload) => {
        const record = encodeRecord(type, payload);
        const decoded = decodeRecord(joined(record, Uint8Array.of(9, 9)));
        expect(decoded).toEqual({ record: { type, payload }, bytesRead: record.length });
      }),
    );
  });

  test('are not there before their last byte', () => {
    const record = encodeRecord('proof', new Uint8Array(32));
    for (let length = 0; length < record.length; length += 1) {
      expect(decodeRecord(record.subarray(0, length))).toBeUndefined();
    }
  });

  test.each([
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n'), 'not-mesh'],
    ['one byte of TLS', Buffer.from([0x16]), 'not-mesh'],
    ['another magic', Buffer.from('48576d02010000', 'hex'), 'not-mesh'],
    ['an unknown type', Buffer.from('48576d01630000', 'hex'), 'malformed'],
    ['a hello that is too long', Buffer.from('48576d01010401', 'hex'), 'oversized'],
    ['a stream that is too long', Buffer.from('48576d01104001', 'hex'), 'oversized'],
  ] as const)('%s is refused at once', (_name, bytes, fault) => {
    expect(decodeRecord(bytes)).toBe(fault);
  });

  test('decodeRecord() never throws', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), bytes => void decodeRecord(bytes)));
  });
});

describe('messages', () => {
  test('have the layout that is drawn', () => {
    const bytes = encoded({
      kind: 0x12,
      role: 'asks',
      correlation: 7,
      head: {},
      body: Uint8Array.of(0xee),
    });
    expect(bytes).toEqual(bytesOf('12 0000000c 01 00000007 00000002 7b7d ee'));
  });

  test('come back as they went, however they were cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { minLength: 1, maxLength: 8 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 40 })),
        (frames, cuts) => {
          const bytes = joined(...frames.map(encoded));
          const { found, fault } = decodeInPieces(bytes, cuts);
          expect(fault).toBeUndefined();
          expect(found).toEqual(frames);
        },
      ),
    );
  });

  test('may be as long as MESH_MESSAGE_BYTES_MAX and no longer', () => {
    const overhead = 9 + 2;
    const longest = { ...FRAME, head: {}, body: new Uint8Array(MESH_MESSAGE_BYTES_MAX - overhead) };
    const bytes = encoded(longest);
    const { found } = decodeInPieces(bytes, pieces(1_000));
    expect(found[0]?.body.length).toBe(longest.body.length);
    const longer = { ...longest, body: new Uint8Array(longest.body.length + 1) };
    expect(encodeMeshFrame(longer, 'says', 0)).toBeUndefined();
  });

  test.each([
    ['a length over the limit', '10 00040001 00 00000000 00000002', 'oversized'],
    ['a head longer than the message', '10 0000000b 00 00000000 00000003', 'malformed'],
    [
      'a length that leaves no room for its fields',
      '10 00000008 00 00000000 00000000',
      'malformed',
    ],
    ['an unknown role', '10 0000000b 03 00000000 00000002 7b7d', 'malformed'],
    ['a head that is no object', '10 0000000b 00 00000000 00000002 3131', 'malformed'],
    ['a head that is not UTF-8', '10 0000000b 00 00000000 00000002 ffff', 'malformed'],
  ] as const)('%s is a fault, in one piece or many', (_name, bytes, fault) => {
    for (const size of [1, 5, 100]) {
      expect(decodeInPieces(bytesOf(bytes), pieces(size)).fault).toBe(fault);
    }
  });

  test('the decoder never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), chunks => {
        const decoder = new MeshFrameDecoder();
        for (const chunk of chunks) if (decoder.push(chunk, () => {}) !== undefined) break;
      }),
    );
  });
});

const DIAL = { id: 'x', action: 'accept', protocols: 'chat', userQuery: '' } as const;

describe('meshHeadOf()', () => {
  test('gives the head of a message of that kind, and of no other', () => {
    const message = meshMessage('dial', DIAL);
    expect(meshKindOf(message)).toBe('dial');
    expect(meshHeadOf('dial', message)).toEqual(DIAL);
    expect(meshHeadOf('settled', message)).toBeUndefined();
  });

  test.each([
    ['a field that is missing', { action: 'accept' }],
    ['a field of another type', { ...DIAL, id: 1 }],
    ['a text that is none of the list', { ...DIAL, action: 'other' }],
    ['a field that may be left out, of another type', { ...DIAL, protocols: 5 }],
    ['null', { ...DIAL, id: null }],
  ])('refuses %s', (_name, head) => {
    expect(
      meshHeadOf('dial', { kind: MESH_MESSAGES.dial.kind, head, body: NOTHING }),
    ).toBeUndefined();
  });

  test('takes fields of a later version for good', () => {
    const head = { id: 'x', new: true };
    const { kind } = MESH_MESSAGES.settled;
    expect(meshHeadOf('settled', { kind, head, body: NOTHING })).toEqual(head);
  });

  test('checks pairs one by one', () => {
    const head = {
      id: 'x',
      namespace: 'n',
      hybridConnection: 'h',
      statusCode: 200,
      statusDescription: '',
    };
    const { kind } = MESH_MESSAGES.response;
    const of = (responseHeaders: unknown): unknown =>
      meshHeadOf('response', { kind, head: { ...head, responseHeaders }, body: NOTHING });
    for (const good of [[['A', 'b']], []]) {
      expect(of(good)).toEqual({ ...head, responseHeaders: good });
    }
    for (const bad of [undefined, 'A', [['A']], [['A', 1]], [['A', 'b', 'c']], { A: 'b' }]) {
      expect(of(bad)).toBeUndefined();
    }
  });

  test('no two kinds share a byte', () => {
    const kinds = Object.values(MESH_MESSAGES).map(({ kind }) => kind);
    expect(new Set(kinds).size).toBe(kinds.length);
  });
});

const FRAME: MeshFrame = {
  kind: 16,
  role: 'says',
  correlation: 0,
  head: { a: 'ü' },
  body: NOTHING,
};

const recordTypes: RecordType[] = ['hello', 'challenge', 'proof', 'welcome', 'refused', 'stream'];
const recordType = fc.constantFrom(...recordTypes);
const frame: fc.Arbitrary<MeshFrame> = fc.record({
  kind: fc.nat(255),
  role: fc.constantFrom(...ROLES),
  correlation: fc.nat(0xffff_ffff),
  head: fc.dictionary(
    fc.string({ unit: 'grapheme' }).filter(name => name !== '__proto__'),
    fc.oneof(fc.string({ unit: 'grapheme' }), fc.integer(), fc.boolean()),
    { noNullPrototype: true },
  ),
  body: fc.uint8Array({ maxLength: 60 }),
});

function encoded(message: MeshFrame): Uint8Array {
  const start = encodeMeshFrame(message, message.role, message.correlation);
  if (start === undefined) throw new Error('The message is too long');
  return joined(start, message.body);
}

function decodeInPieces(
  bytes: Uint8Array,
  sizes: Iterator<number>,
): { readonly found: MeshFrame[]; readonly fault: FrameFault | undefined } {
  const decoder = new MeshFrameDecoder();
  const found: MeshFrame[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const size = sizes.next().value ?? 1;
    const fault = decoder.push(bytes.slice(offset, offset + size), it => found.push(it));
    if (fault !== undefined) return { found, fault };
    offset += size;
  }
  return { found, fault: undefined };
}

function* pieces(size: number): Generator<number> {
  for (;;) yield size;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

/** Spaces are for the reader. */
function bytesOf(hexText: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hexText.replaceAll(' ', ''), 'hex'));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
