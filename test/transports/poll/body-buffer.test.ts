import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BodyBuffer } from '../../../src/transports/poll/body-buffer.ts';

const BYTES_MAX = 4_096;

describe('BodyBuffer', () => {
  test('has all pieces in their order, whatever was announced', () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 });
    fc.assert(
      fc.property(pieces, fc.boolean(), (given, isAnnounced) => {
        const whole = Buffer.concat(given);
        const body = new BodyBuffer(isAnnounced ? whole.length : Infinity, BYTES_MAX);
        for (const piece of given) body.push(lent(piece));
        expect(body.length).toBe(whole.length);
        expect(Buffer.from(body.bytes).equals(whole)).toBe(true);
      }),
    );
  });

  test('copies pieces, which are lent', () => {
    const body = new BodyBuffer(4, BYTES_MAX);
    const piece = lent(Buffer.from('abcd'));
    body.push(piece);
    new Uint8Array(piece).fill(0);
    expect(Buffer.from(body.bytes).toString()).toBe('abcd');
  });

  test('takes memory for an announced length once, when a part of it has come', () => {
    const body = new BodyBuffer(1_048_576, 1_048_576);
    body.push(new ArrayBuffer(65_536));
    const { buffer } = body.bytes;
    expect(buffer.byteLength).toBe(1_048_576);
    for (let index = 0; index < 15; index += 1) body.push(new ArrayBuffer(65_536));
    expect(body.bytes.buffer).toBe(buffer);
  });

  test('takes little for a long body of which little comes', () => {
    const body = new BodyBuffer(1_048_576, 1_048_576);
    body.push(new ArrayBuffer(1_000));
    expect(body.bytes.buffer.byteLength).toBeLessThanOrEqual(16_000);
  });

  test('is empty after drop()', () => {
    const body = new BodyBuffer(4, BYTES_MAX);
    body.push(lent(Buffer.from('abcd')));
    body.drop();
    expect(body.length).toBe(0);
    expect(body.bytes).toHaveLength(0);
  });
});

function lent(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
