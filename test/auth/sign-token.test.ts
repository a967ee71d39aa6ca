import { describe, expect, test } from 'vitest';
import { signatureOf, signToken, tokenAudience } from '../../src/auth/sign-token.ts';
import { signedTextOf } from '../../src/protocol/sas-token.ts';
import signatures from '../fixtures/sas-signatures.json' with { type: 'json' };

describe('signatureOf()', () => {
  test.each(signatures.good)('gives the signature of the reference for $name', vector => {
    const signedText = signedTextOf(vector.sr, String(signatures.expiresAtSec));
    expect(signatureOf(signedText, signatures.key)).toBe(vector.signature);
  });

  test('takes the key as text, not as the bytes that its base64 stands for', () => {
    const { sr, signature } = signatures.wrong;
    const signedText = signedTextOf(sr, String(signatures.expiresAtSec));
    expect(signatureOf(signedText, signatures.key)).not.toBe(signature);
    // The vector is what it says: the key was decoded first.
    expect(signatureOf(signedText, atob(signatures.key))).toBe(signature);
  });
});

test('signToken() gives the complete token of the reference', () => {
  expect(
    signToken({
      audience: tokenAudience('sb://relay.example.com/', 'hyco'),
      keyName: 'listenRule',
      key: signatures.key,
      expiresAtSec: signatures.expiresAtSec,
    }),
  ).toBe(signatures.completeToken);
});

describe('tokenAudience()', () => {
  test.each([
    ['sb://relay.example.com/', 'hyco', 'http://relay.example.com/hyco/'],
    ['sb://relay.example.com:8443', '/a/b/', 'http://relay.example.com/a/b/'],
    ['wss://relay.example.com:443/$hc/hyco?x=1', 'hyco', 'http://relay.example.com/hyco/'],
    ['http://127.0.0.1:8080', '', 'http://127.0.0.1/'],
    ['http://[::1]:8080/', 'hyco', 'http://[::1]/hyco/'],
    ['relay.example.com', 'hyco', 'http://relay.example.com/hyco/'],
  ])('of %s and "%s"', (endpoint, path, audience) => {
    expect(tokenAudience(endpoint, path)).toBe(audience);
  });
});
