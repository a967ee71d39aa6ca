import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { decodeBase64Url, encodeBase64Url } from './base64url.ts';

// ES256 signatures (ECDSA, P-256, SHA-256; RFC 7518 section 3.4) in the two forms of JWS (RFC 7515) that are
// in use here: compact, and detached over a body. The algorithm is never taken from what was received.

export interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
}

/** Claims or header fields, as they were signed. */
export type Fields = Readonly<Record<string, unknown>>;

/** A new private key as PKCS#8, base64url. */
export function newSigningKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return encodeBase64Url(privateKey.export({ format: 'der', type: 'pkcs8' }));
}

export function signingKeyOf(pkcs8: string): KeyObject {
  return createPrivateKey({
    key: Buffer.from(pkcs8, 'base64url'),
    format: 'der',
    type: 'pkcs8',
  });
}

const POINT_BYTES = 65;

/** The public key of an uncompressed point, base64url; undefined when it is none of the curve. */
export function verifyingKeyOf(point: string): KeyObject | undefined {
  const bytes = decodeBase64Url(point);
  if (bytes?.length !== POINT_BYTES || bytes[0] !== 4) return undefined;
  const [x, y] = [encodeBase64Url(bytes.subarray(1, 33)), encodeBase64Url(bytes.subarray(33))];
  try {
    return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
  } catch {
    // This is how Node says that the point is not on the curve.
    return undefined;
  }
}

/** The uncompressed point of a public or private key, base64url. */
export function pointOf(key: KeyObject): string {
  const { x, y } = key.export({ format: 'jwk' });
  if (x === undefined || y === undefined) throw new RangeError('not a key of an elliptic curve');
  const bytes = [Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')];
  return encodeBase64Url(Buffer.concat(bytes));
}

/** Bytes signed as they are; 64 bytes, base64url. */
export function signBytes(privateKey: KeyObject, bytes: Uint8Array): string {
  return encodeBase64Url(sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' }));
}

export function isSignedBy(publicKey: KeyObject, bytes: Uint8Array, signature: string): boolean {
  const given = decodeBase64Url(signature);
  if (given?.length !== 64) return false;
  return verify('sha256', bytes, { key: publicKey, dsaEncoding: 'ieee-p1363' }, given);
}

/** `<header>.<payload>.<signature>`. */
export function signCompact(key: SigningKey, claims: Fields): string {
  const header = encodeFields({ alg: 'ES256', typ: 'JWT', kid: key.kid });
  const signed = `${header}.${encodeFields(claims)}`;
  return `${signed}.${signBytes(key.privateKey, Buffer.from(signed))}`;
}

/** The claims, when the signature is good; times and names in them are the caller's to check. */
export function openCompact(text: string, publicKey: KeyObject): Fields | undefined {
  const [header, payload, signature, ...more] = text.split('.');
  if (header === undefined || payload === undefined || signature === undefined) return undefined;
  if (more.length > 0 || decodeFields(header)?.['alg'] !== 'ES256') return undefined;
  const signed = Buffer.from(`${header}.${payload}`);
  return isSignedBy(publicKey, signed, signature) ? decodeFields(payload) : undefined;
}

/** `<header>..<signature>` over a body that travels beside it; `fields` are signed with it. */
export function signDetached(key: SigningKey, body: string, fields: Fields): string {
  const header = encodeFields({ ...fields, alg: 'ES256', kid: key.kid });
  const signed = `${header}.${Buffer.from(body).toString('base64url')}`;
  return `${header}..${signBytes(key.privateKey, Buffer.from(signed))}`;
}

/** The signed fields, when the signature over this body is good and of the key that `keyOf` knows. */
export function openDetached(
  signature: string,
  body: string,
  keyOf: (kid: string) => KeyObject | undefined,
): Fields | undefined {
  const [header, empty, given, ...more] = signature.split('.');
  if (header === undefined || empty !== '' || given === undefined) return undefined;
  const fields = decodeFields(header);
  const kid = fields?.['kid'];
  if (more.length > 0 || fields?.['alg'] !== 'ES256' || typeof kid !== 'string') return undefined;
  const publicKey = keyOf(kid);
  if (publicKey === undefined) return undefined;
  const signed = Buffer.from(`${header}.${Buffer.from(body).toString('base64url')}`);
  return isSignedBy(publicKey, signed, given) ? fields : undefined;
}

function encodeFields(fields: Fields): string {
  return encodeBase64Url(Buffer.from(JSON.stringify(fields)));
}

function decodeFields(text: string): Fields | undefined {
  const bytes = decodeBase64Url(text);
  if (bytes === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString());
    return isFields(value) ? value : undefined;
  } catch {
    // Not JSON: not a signature of anybody.
    return undefined;
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
