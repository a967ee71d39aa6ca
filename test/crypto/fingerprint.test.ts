import { describe, expect, test } from 'vitest';
import { encodeBase64Url } from '../../src/crypto/base64url.ts';
import { fingerprintOf, isFingerprintOf } from '../../src/crypto/fingerprint.ts';

function kidOf(...first: readonly number[]): string {
  const bytes = new Uint8Array(32);
  bytes.set(first);
  return encodeBase64Url(bytes);
}

describe('fingerprintOf()', () => {
  test('says each two bytes as a word', () => {
    // 127.0.0.1 and 63.84.220.193, the examples of arXiv:0901.4016.
    const kid = kidOf(127, 0, 0, 1, 63, 84, 220, 193);
    expect(fingerprintOf(kid)).toBe('lusab-babad-gutih-tugad-babab-babab-babab-babab');
  });

  test('changes with each of the bytes that are shown', () => {
    const shown = Array.from({ length: 16 }, (_, i) =>
      fingerprintOf(kidOf(...Array.from({ length: i + 1 }, (_unused, j) => (j === i ? 1 : 0)))),
    );
    expect(new Set([...shown, fingerprintOf(kidOf())]).size).toBe(17);
  });

  test.each(['', 'short', `${kidOf()}A`, `+${kidOf().slice(1)}`])('refuses "%s"', text => {
    expect(() => fingerprintOf(text)).toThrow(RangeError);
  });
});

describe('isFingerprintOf()', () => {
  const kid = kidOf(127, 0, 0, 1);
  const words = fingerprintOf(kid);

  test.each([words, words.toUpperCase(), ` ${words.replaceAll('-', ' ')}\n`, kid])(
    'takes "%s"',
    typed => {
      expect(isFingerprintOf(typed, kid)).toBe(true);
    },
  );

  test.each(['', 'lusab', words.slice(0, -1), kid.toUpperCase()])('refuses "%s"', typed => {
    expect(isFingerprintOf(typed, kid)).toBe(false);
  });
});
