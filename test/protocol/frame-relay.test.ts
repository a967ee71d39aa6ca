import { describe, expect, test } from 'vitest';
import { relayFrames } from '../../src/protocol/frame-relay.ts';
import { encodeClosePayload, encodeFrame, OPCODES } from '../../src/protocol/frames.ts';

const NO_LIMITS = { frameBytesMax: 0, messageBytesMax: 0 };
const MASK = 0x1122_3344;

function masked(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  return encodeFrame({ opcode, payload, isFinal, mask: MASK });
}

function plain(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  return encodeFrame({ opcode, payload, isFinal });
}

function relay(...frames: Uint8Array[]) {
  return relayFrames(Buffer.concat(frames), NO_LIMITS);
}

describe('relayFrames()', () => {
  const text = Buffer.from('text');

  test('takes the mask off and leaves the rest', () => {
    const { output, ...rest } = relay(
      masked(OPCODES.text, text, false),
      masked(OPCODES.ping, text),
      masked(OPCODES.continuation, text),
    );
    expect(Buffer.from(output)).toEqual(
      Buffer.concat([
        plain(OPCODES.text, text, false),
        plain(OPCODES.ping, text),
        plain(OPCODES.continuation, text),
      ]),
    );
    expect(rest).toEqual({
      end: { type: 'open' },
      isOnBoundary: true,
      dataBytes: 8,
      dataFrames: 2,
    });
  });

  test('passes on what has come of a frame', () => {
    const { output, isOnBoundary } = relay(masked(OPCODES.binary, text).subarray(0, 8));
    expect(Buffer.from(output).toString('latin1')).toBe('\x82\x04te');
    expect(isOnBoundary).toBe(false);
  });

  test('cuts frames above 65,536 bytes into fragments', () => {
    const payload = Buffer.alloc(65_537, 'p');
    expect(Buffer.from(relay(masked(OPCODES.text, payload)).output)).toEqual(
      Buffer.concat([
        plain(OPCODES.text, payload.subarray(1), false),
        plain(OPCODES.continuation, payload.subarray(0, 1)),
      ]),
    );
  });

  test('ends with Close, which is passed on whole', () => {
    const close = encodeClosePayload(4000, 'bye');
    const stream = relay(masked(OPCODES.close, close), masked(OPCODES.text, text));
    expect(stream.end).toEqual({ type: 'closed', code: 4000, reason: 'bye' });
    expect(Buffer.from(stream.output)).toEqual(Buffer.from(plain(OPCODES.close, close)));
    expect(relay(masked(OPCODES.close, close).subarray(0, 10)).output.length).toBe(0);
  });

  test('ends with a violation, and passes nothing of it on', () => {
    const violated = { type: 'violated', code: 1002 };
    for (const bad of [
      plain(OPCODES.text, text),
      masked(0x40 | OPCODES.text, text),
      masked(3, text),
      masked(OPCODES.ping, text, false),
      masked(OPCODES.pong, new Uint8Array(126)),
      masked(OPCODES.continuation, text),
      masked(OPCODES.close, Uint8Array.of(3)),
      masked(OPCODES.close, encodeClosePayload(1005)),
      Uint8Array.of(0x82, 0xfe, 0, 1, 0, 0, 0, 0),
    ]) {
      const stream = relay(masked(OPCODES.text, text), bad);
      expect(stream.end).toEqual(violated);
      expect(Buffer.from(stream.output)).toEqual(Buffer.from(plain(OPCODES.text, text)));
    }
    expect(relay(masked(OPCODES.text, text, false), masked(OPCODES.text, text)).end).toEqual(
      violated,
    );
  });

  test('holds frames and messages to their limits', () => {
    const fragments = Buffer.concat([
      masked(OPCODES.binary, text, false),
      masked(OPCODES.continuation, text),
      masked(OPCODES.binary, text),
    ]);
    const tooBig = { type: 'violated', code: 1009 };
    const open = { type: 'open' };
    expect(relayFrames(fragments, { frameBytesMax: 4, messageBytesMax: 8 }).end).toEqual(open);
    expect(relayFrames(fragments, { frameBytesMax: 3, messageBytesMax: 0 }).end).toEqual(tooBig);
    expect(relayFrames(fragments, { frameBytesMax: 0, messageBytesMax: 7 }).end).toEqual(tooBig);
  });
});
