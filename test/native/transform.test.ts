import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { relayFrames, type RelayedStream } from '../../src/protocol/frame-relay.ts';
import { encodeClosePayload, encodeFrame, OPCODES } from '../../src/protocol/frames.ts';
import { startNativeRelay, type LegKind, type NativeRelay } from '../support/native-relay.ts';

/** Payload lengths around every edge of headers, fragments and unmasking loops. */
const LENGTHS = [0, 1, 3, 7, 8, 9, 63, 64, 65, 125, 126, 127, 128, 129, 1000, 65_535, 65_536];

const payload = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...LENGTHS) },
  { weight: 3, arbitrary: fc.nat(300) },
  { weight: 1, arbitrary: fc.integer({ min: 65_537, max: 200_000 }) },
);
const frame = fc.record({
  kind: fc.constantFrom('data', 'data', 'data', 'ping', 'pong'),
  bytes: payload,
  isFinal: fc.boolean(),
  isText: fc.boolean(),
  mask: fc.integer({ min: 0, max: 0xffff_ffff }),
});
type Ending =
  | { readonly close: readonly [number, string] }
  | { readonly bytes: Uint8Array<ArrayBuffer> };
const ending: fc.Arbitrary<Ending> = fc.oneof(
  fc.constant({ bytes: new Uint8Array(0) }),
  fc
    .tuple(fc.constantFrom(1000, 1005, 1011, 2000, 4999), fc.string({ maxLength: 40 }))
    .map(close => ({ close })),
  fc.uint8Array({ minLength: 1, maxLength: 30 }).map(bytes => ({ bytes })),
);
const cuts = fc.oneof(
  fc.constant([Number.POSITIVE_INFINITY]),
  fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 }),
  fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 10 }),
);

/** Frames that follow one another as the RFC demands; whatever breaks it comes as the ending. */
function streamOf(
  source: LegKind,
  frames: readonly {
    kind: string;
    bytes: number;
    isFinal: boolean;
    isText: boolean;
    mask: number;
  }[],
): Buffer {
  let isInMessage = false;
  const masked = (mask: number): { mask?: number } => (source === 'websocket' ? { mask } : {});
  return Buffer.concat(
    frames.map(({ kind, bytes, isFinal, isText, mask }, i) => {
      const content = Buffer.from(
        Uint8Array.from({ length: kind === 'data' ? bytes : bytes % 126 }, (_, at) => at * 7 + i),
      );
      if (kind === 'ping' || kind === 'pong') {
        return encodeFrame({ opcode: OPCODES[kind], payload: content, ...masked(mask) });
      }
      const opcode = isInMessage ? OPCODES.continuation : isText ? OPCODES.text : OPCODES.binary;
      isInMessage = !isFinal;
      return encodeFrame({ opcode, payload: content, isFinal, ...masked(mask) });
    }),
  );
}

function endOf(source: LegKind, end: Ending): Uint8Array {
  if ('bytes' in end) return end.bytes;
  const content = encodeClosePayload(...end.close);
  const mask = source === 'websocket' ? { mask: 7 } : {};
  return encodeFrame({ opcode: OPCODES.close, payload: content, ...mask });
}

/** What B must have received once A has sent everything and then FIN. */
function expectedBytes(stream: RelayedStream): Buffer {
  const code = stream.end.type === 'violated' ? stream.end.code : 1001;
  const isCloseAdded = stream.end.type !== 'closed' && stream.isOnBoundary;
  const close = encodeFrame({ opcode: OPCODES.close, payload: encodeClosePayload(code) });
  return Buffer.concat([stream.output, isCloseAdded ? close : new Uint8Array(0)]);
}

const COURSES: readonly { kinds: readonly [LegKind, LegKind]; runs: number }[] = [
  { kinds: ['websocket', 'websocket'], runs: 150 },
  { kinds: ['raw', 'websocket'], runs: 150 },
  { kinds: ['websocket', 'raw'], runs: 60 },
  { kinds: ['raw', 'raw'], runs: 60 },
];

describe.each(COURSES)('splice() $kinds', ({ kinds, runs }) => {
  const [source] = kinds;
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterEach(async () => {
    await relay.cutAll();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });

  /** Sends `input` in pieces, each of which the relay has read before the next, and FIN; compares with the model. */
  async function compare(
    input: Buffer,
    pieces: readonly number[],
    limits = { frameBytesMax: 0, messageBytesMax: 0 },
  ): Promise<void> {
    const model = relayFrames(input, limits, source === 'raw' ? 'node' : 'client');
    const { a, b, counters } = await relay.pair({ limits, kinds });
    b.keepsBytes = true;
    for (let at = 0, i = 0; at < input.length; i += 1) {
      const size = Math.min(pieces[i % pieces.length] ?? 1, input.length - at);
      await a.flush(input.subarray(at, at + size));
      await new Promise(resolve => void setImmediate(resolve));
      at += size;
    }
    a.fin();
    if (model.end.type === 'closed') {
      // A half-close: B ends it.
      b.sendClose(1000);
    }
    await b.ended;
    const got = b.takeBytes();
    const expected = expectedBytes(model);
    expect(got.length).toBe(expected.length);
    expect(Buffer.compare(got, expected)).toBe(0);
    expect([counters[0], counters[2]]).toEqual([model.dataBytes, model.dataFrames]);
    b.fin();
    await b.closed;
  }

  test('passes what the model passes, however the bytes are cut', async () => {
    const run = fc.asyncProperty(
      fc.array(frame, { maxLength: 12 }),
      ending,
      cuts,
      fc.nat(40),
      async (frames, end, pieces, lost) => {
        const input = Buffer.concat([streamOf(source, frames), endOf(source, end)]);
        const kept = lost > 20 ? input : input.subarray(0, Math.max(0, input.length - lost));
        // Byte by byte only where it is affordable.
        await compare(kept, kept.length > 5_000 ? pieces.map(size => size * 100) : pieces);
      },
    );
    await fc.assert(run, { numRuns: runs });
  });

  // Another node has held its client to its limits already.
  if (source === 'websocket') {
    test('holds to limits as the model does', async () => {
      const limit = fc.constantFrom(0, 1, 125, 1000, 70_000);
      const run = fc.asyncProperty(
        fc.array(frame, { minLength: 1, maxLength: 6 }),
        limit,
        limit,
        async (frames, frameBytesMax, messageBytesMax) => {
          await compare(streamOf(source, frames), [10_000], { frameBytesMax, messageBytesMax });
        },
      );
      await fc.assert(run, { numRuns: 60 });
    });
  }

  test('passes fragments cut at each byte boundary', async () => {
    const input = streamOf(source, [
      { kind: 'data', bytes: 5, isFinal: false, isText: true, mask: 0x0102_0304 },
      { kind: 'ping', bytes: 3, isFinal: true, isText: true, mask: 0xffff_ffff },
      { kind: 'data', bytes: 126, isFinal: false, isText: true, mask: 1 },
      { kind: 'data', bytes: 0, isFinal: true, isText: true, mask: 2 },
    ]);
    for (let cut = 0; cut < input.length; cut += 1) await compare(input, [cut, input.length]);
  });
});
