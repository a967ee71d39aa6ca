import { createECDH } from 'node:crypto';
import { encodeBase64Url } from './base64url.ts';
import { deriveScalar, importPublicKey, SCALAR_BYTES, type KeyPair } from './hpke.ts';
import { keyIdOf } from './key-id.ts';

/** A key pair to open envelopes with, as its holder has it. */
export interface OpeningKey extends KeyPair {
  readonly kid: string;
  /** The public key, an uncompressed point. */
  readonly point: Uint8Array<ArrayBuffer>;
}

/**
 * The key pair of a secret scalar (32 bytes). The private key cannot be exported again. Throws for a
 * scalar that is 0 or not below the order of the curve.
 */
export async function openingKeyOf(scalar: Uint8Array): Promise<OpeningKey> {
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(scalar);
  const point = new Uint8Array(ecdh.getPublicKey());
  const jwk = {
    kty: 'EC',
    crv: 'P-256',
    x: encodeBase64Url(point.subarray(1, 1 + SCALAR_BYTES)),
    y: encodeBase64Url(point.subarray(1 + SCALAR_BYTES)),
    d: encodeBase64Url(scalar),
  };
  const privateKey = await globalThis.crypto.subtle.importKey(
    'jwk',
    jwk,
    { name: 'ECDH', namedCurve: 'P-256' },
    false,
    ['deriveBits'],
  );
  return { kid: await keyIdOf(point), point, privateKey, publicKey: await importPublicKey(point) };
}

/** A new secret scalar, each as likely as any other. Whoever asked wipes it. */
export function newScalar(): Promise<Uint8Array<ArrayBuffer>> {
  return deriveScalar(globalThis.crypto.getRandomValues(new Uint8Array(SCALAR_BYTES)));
}
