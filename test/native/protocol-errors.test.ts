import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeFrame, encodeFrameHeader, OPCODES } from '../../src/protocol/frames.ts';
import { clientFrame } from '../support/frame-client.ts';
import { startNativeRelay, type NativeRelay } from '../support/native-relay.ts';
import { within } from '../support/within.ts';

const MASK = 0x0a0b_0c0d;

function bytes(...values: number[]): Uint8Array {
  return Uint8Array.from(values);
}

/** A length written in a longer form than it needs. */
function header64(firstByte: number, high: number, low: number): Uint8Array {
  const header = encodeFrameHeader(firstByte, 2 ** 32, MASK);
  new DataView(header.buffer).setUint32(2, high);
  new DataView(header.buffer).setUint32(6, low);
  return header;
}

/** Each breaks RFC 6455 by its last frame, at the latest. Source: section 5. */
const VIOLATIONS: readonly (readonly [string, Uint8Array])[] = [
  ['an unmasked frame', encodeFrame({ opcode: OPCODES.text, payload: bytes(104) })],
  ['RSV1', clientFrame(0x40 | OPCODES.text, 'x')],
  ['RSV2', clientFrame(0x20 | OPCODES.text, 'x')],
  ['RSV3', clientFrame(0x10 | OPCODES.binary, 'x')],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(
    opcode => [`opcode ${opcode}`, clientFrame(opcode, '')] as const,
  ),
  ['a fragmented ping', clientFrame(OPCODES.ping, 'x', { isFinal: false })],
  ['a fragmented Close', clientFrame(OPCODES.close, '', { isFinal: false })],
  ['a ping of 126 bytes', clientFrame(OPCODES.ping, new Uint8Array(126))],
  ['a pong of 70,000 bytes', clientFrame(OPCODES.pong, new Uint8Array(70_000))],
  ['a Close of one byte', clientFrame(OPCODES.close, bytes(3))],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map(
    code => [`Close ${code}`, clientFrame(OPCODES.close, bytes(code >> 8, code & 255))] as const,
  ),
  ['a continuation of nothing', clientFrame(OPCODES.continuation, 'x')],
  [
    'a message within a message',
    Buffer.concat([
      clientFrame(OPCODES.text, '', { isFinal: false }),
      clientFrame(OPCODES.text, 'x'),
    ]),
  ],
  ['a length of 125 in 16 bits', bytes(0x82, 0xfe, 0, 125, 1, 2, 3, 4)],
  ['a length of 65,535 in 64 bits', header64(0x82, 0, 65_535)],
  ['a length with its top bit set', header64(0x82, 0x8000_0000, 0)],
];

describe('a violation by A', () => {
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

  test.each(VIOLATIONS)(
    '%s: 1002 to both, the frame before it and nothing after',
    async (name, violation) => {
      for (const isCut of [false, true]) {
        const { a, b, ended } = await relay.pair();
        a.sendText('before');
        // In one piece, and with every byte for itself.
        const pieces = isCut
          ? [...violation.subarray(0, 40)].map(byte => bytes(byte))
          : [violation];
        if (isCut) pieces.push(violation.subarray(40));
        for (const piece of pieces) {
          if (piece.length > 0) a.write(piece);
          if (isCut) await new Promise(resolve => void setImmediate(resolve));
        }
        a.sendText('after');
        expect(await b.nextText()).toBe('before');
        if (name === 'a message within a message') expect((await b.next())?.payload.length).toBe(0);
        expect((await b.nextClose()).code).toBe(1002);
        expect((await a.nextClose()).code).toBe(1002);
        await Promise.all([a.nextEnd(), b.nextEnd()]);
        a.fin();
        b.fin();
        const end = await within('the end', ended);
        expect([end.first, end.a.cause, end.b.cause]).toEqual([
          'a',
          'protocol-error',
          'pair-ended',
        ]);
      }
    },
  );

  test('does not break a frame of B in two: A gets FIN alone', async () => {
    const { a, b } = await relay.pair();
    b.write(clientFrame(OPCODES.binary, new Uint8Array(100)).subarray(0, 60));
    a.keepsBytes = true;
    await relay.settled();
    a.write(bytes(0xff, 0xff));
    expect((await b.nextClose()).code).toBe(1002);
    await a.ended;
    // 2 bytes of header and the payload behind the client's 6.
    expect(a.takeBytes().length).toBe(2 + 54);
    a.fin();
    b.fin();
    await relay.empty();
  });

  test.each([
    ['one frame', { frameBytesMax: 1000 }, [1000], [1001]],
    ['one frame of several', { messageBytesMax: 1000 }, [1000, 1000], [400, 400, 201]],
    ['a long one', { frameBytesMax: 100_000 }, [100_000], [100_001]],
    ['an endless one', { messageBytesMax: 4096 }, [4096], [2 ** 40]],
  ] as const)('too many bytes in %s: 1009', async (_name, limits, fine, tooBig) => {
    const { a, b, ended } = await relay.pair({ limits });
    for (const size of fine) a.send(OPCODES.binary, new Uint8Array(size));
    for (let left: number = fine.reduce((sum, size) => sum + size, 0); left > 0;) {
      left -= (await b.next())?.payload.length ?? left;
    }
    for (const [i, size] of tooBig.entries()) {
      const opcode = i === 0 ? OPCODES.binary : OPCODES.continuation;
      const isFinal = i === tooBig.length - 1;
      const header = encodeFrameHeader((isFinal ? 0x80 : 0) | opcode, size, MASK);
      a.write(Buffer.concat([header, new Uint8Array(Math.min(size, 2_000))]));
      if (!isFinal) expect((await b.next())?.payload.length).toBe(size);
    }
    expect((await b.nextClose()).code).toBe(1009);
    expect((await a.nextClose()).code).toBe(1009);
    a.fin();
    b.fin();
    expect((await within('the end', ended)).a.cause).toBe('too-big');
  });

  test('before pairing: more than all may send together', async () => {
    relay.plane.configure({ parkedBytesMax: 1000 });
    const { client } = await relay.park();
    client.send(OPCODES.binary, new Uint8Array(1001));
    expect((await client.nextClose()).code).toBe(1009);
    await client.nextEnd();
    client.fin();
    await relay.empty();
    relay.plane.configure({ parkedBytesMax: 64 * 1024 * 1024 });
  });
});
