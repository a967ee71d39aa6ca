import { createPublicKey } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  isSignedBy,
  newSigningKey,
  openCompact,
  openDetached,
  pointOf,
  signBytes,
  signCompact,
  signDetached,
  signingKeyOf,
  verifyingKeyOf,
} from '../../src/crypto/es256.ts';

const privateKey = signingKeyOf(newSigningKey());
const publicKey = createPublicKey(privateKey);
const other = createPublicKey(signingKeyOf(newSigningKey()));
const key = { kid: 'k1', privateKey };
const keyOf = (kid: string) => (kid === 'k1' ? publicKey : undefined);

test('a public key goes through its point; what is no point of the curve is no key', () => {
  const point = pointOf(privateKey);
  expect(pointOf(publicKey)).toBe(point);
  const read = verifyingKeyOf(point);
  const bytes = Buffer.from('text');
  expect(read !== undefined && isSignedBy(read, bytes, signBytes(privateKey, bytes))).toBe(true);
  const off = Buffer.from(point, 'base64url');
  off[64] = (off[64] ?? 0) ^ 1;
  expect(verifyingKeyOf(off.toString('base64url'))).toBeUndefined();
  expect(verifyingKeyOf(point.slice(0, -2))).toBeUndefined();
});

test('isSignedBy() is true for these bytes, this key and this signature only', () => {
  const signature = signBytes(privateKey, Buffer.from('text'));
  expect(isSignedBy(publicKey, Buffer.from('text'), signature)).toBe(true);
  expect(isSignedBy(publicKey, Buffer.from('texT'), signature)).toBe(false);
  expect(isSignedBy(other, Buffer.from('text'), signature)).toBe(false);
  for (const bad of ['', '!', signature.slice(4), `${signature}AAAA`]) {
    expect(isSignedBy(publicKey, Buffer.from('text'), bad)).toBe(false);
  }
});

test('openCompact() gives the claims of a good signature and no others', () => {
  const text = signCompact(key, { sub: 'm1' });
  expect(openCompact(text, publicKey)).toEqual({ sub: 'm1' });
  expect(openCompact(text, other)).toBeUndefined();
  const [header = '', , signature = ''] = text.split('.');
  const changed = Buffer.from('{"sub":"m2"}').toString('base64url');
  expect(openCompact(`${header}.${changed}.${signature}`, publicKey)).toBeUndefined();
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  expect(openCompact(`${none}.${changed}.`, publicKey)).toBeUndefined();
  for (const bad of ['', 'a', 'a.b', `${text}.x`])
    expect(openCompact(bad, publicKey)).toBeUndefined();
});

test('openDetached() takes the signature over this body by a known key', () => {
  const signature = signDetached(key, '{"a":"ä"}', { aud: 'dev/m/m1' });
  expect(openDetached(signature, '{"a":"ä"}', keyOf)).toMatchObject({ aud: 'dev/m/m1', kid: 'k1' });
  expect(openDetached(signature, '{"a":"a"}', keyOf)).toBeUndefined();
  expect(openDetached(signature, '{"a":"ä"}', () => other)).toBeUndefined();
  expect(openDetached(signature, '{"a":"ä"}', () => undefined)).toBeUndefined();
  for (const bad of ['', '..', signature.replace('..', '.e30.'), `${signature}.`]) {
    expect(openDetached(bad, '{"a":"ä"}', keyOf)).toBeUndefined();
  }
});
