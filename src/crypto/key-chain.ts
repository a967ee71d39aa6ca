import { createPublicKey, type KeyObject } from 'node:crypto';
import { isSignedBy, pointOf, signBytes } from './es256.ts';
import { decodeBase64Url } from './base64url.ts';
import { keyIdOf } from './key-id.ts';

// Each key that signs for the control plane is signed by the one before it, so that who knows any of them knows
// those that came after. Source: job-dispatch.md section 12.7.

/** A public key as it is published (RFC 7517), with its predecessor's word for it. */
export interface ChainedJwk {
  readonly kty: 'EC';
  readonly crv: 'P-256';
  /** The RFC 7638 thumbprint. */
  readonly kid: string;
  readonly x: string;
  readonly y: string;
  /** Undefined: it is the first. */
  readonly signedBy?: { readonly kid: string; readonly signature: string } | undefined;
}

/** Signs a successor. `point`: uncompressed, base64url. */
export function signSuccessor(privateKey: KeyObject, kid: string, point: string): string {
  return signBytes(privateKey, Buffer.from(chainText(kid, point)));
}

/**
 * Those of the published keys that are to be trusted by whoever trusts `known`: these themselves, and what
 * they, or a key that is trusted because of them, have signed. A key that is not published any more is none.
 */
export async function trustedKeys<Key extends ChainedJwk>(
  known: readonly ChainedJwk[],
  published: readonly Key[],
): Promise<readonly Key[]> {
  const keys = await Promise.all(published.map(async jwk => ({ jwk, key: await keyOf(jwk) })));
  const trusted = new Map<string, KeyObject>();
  for (const { jwk, key } of keys) {
    const isKnown = known.some(({ kid, x, y }) => kid === jwk.kid && x === jwk.x && y === jwk.y);
    if (key !== undefined && isKnown) trusted.set(jwk.kid, key);
  }
  for (let before = -1; before !== trusted.size;) {
    before = trusted.size;
    for (const { jwk, key } of keys) {
      const { kid: by = '', signature = '' } = jwk.signedBy ?? {};
      const predecessor = trusted.get(by);
      if (key === undefined || predecessor === undefined || trusted.has(jwk.kid)) continue;
      const text = Buffer.from(chainText(jwk.kid, pointOf(key)));
      if (isSignedBy(predecessor, text, signature)) trusted.set(jwk.kid, key);
    }
  }
  return keys
    .filter(({ jwk, key }) => key !== undefined && trusted.has(jwk.kid))
    .map(({ jwk }) => jwk);
}

function chainText(kid: string, point: string): string {
  return `hyco-jobs/1 dispatch-key ${kid} ${point}`;
}

/** Undefined: it is no key, or not the one that it says it is. */
async function keyOf({ kid, x, y }: ChainedJwk): Promise<KeyObject | undefined> {
  try {
    const key = createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
    const point = decodeBase64Url(pointOf(key));
    return point !== undefined && (await keyIdOf(point)) === kid ? key : undefined;
  } catch {
    // This is how Node says that the point is not on the curve.
    return undefined;
  }
}
