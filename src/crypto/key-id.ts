import { encodeBase64Url } from './base64url.ts';
import { PUBLIC_KEY_BYTES } from './hpke.ts';

const { subtle } = globalThis.crypto;

/**
 * The id of a public key: the RFC 7638 thumbprint of its JWK, base64url. `point` is uncompressed. Throws
 * a RangeError for anything else; whether the point is on the curve is not looked at.
 */
export async function keyIdOf(point: Uint8Array): Promise<string> {
  if (point.length !== PUBLIC_KEY_BYTES || point[0] !== 4) {
    throw new RangeError('a public key is an uncompressed point of 65 bytes');
  }
  const x = encodeBase64Url(point.subarray(1, 33));
  const y = encodeBase64Url(point.subarray(33));
  const jwk = `{"crv":"P-256","kty":"EC","x":"${x}","y":"${y}"}`;
  const digest = await subtle.digest('SHA-256', new TextEncoder().encode(jwk));
  return encodeBase64Url(new Uint8Array(digest));
}
