import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { pointOf } from '../../src/crypto/es256.ts';
import { signSuccessor, trustedKeys, type ChainedJwk } from '../../src/crypto/key-chain.ts';
import { keyIdOf } from '../../src/crypto/key-id.ts';

async function newLink(by?: { readonly jwk: ChainedJwk; readonly privateKey: KeyObject }) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const point = pointOf(privateKey);
  const bytes = Buffer.from(point, 'base64url');
  const kid = await keyIdOf(bytes);
  const jwk: ChainedJwk = {
    kty: 'EC',
    crv: 'P-256',
    kid,
    x: bytes.subarray(1, 33).toString('base64url'),
    y: bytes.subarray(33).toString('base64url'),
    signedBy:
      by === undefined
        ? undefined
        : { kid: by.jwk.kid, signature: signSuccessor(by.privateKey, kid, point) },
  };
  return { jwk, privateKey };
}

describe('trustedKeys()', () => {
  test('goes from any key that is known to all that came after, in whatever order', async () => {
    const one = await newLink();
    const two = await newLink(one);
    const three = await newLink(two);
    const published = [three.jwk, one.jwk, two.jwk];
    await expect(trustedKeys([one.jwk], published)).resolves.toEqual(published);
    // What came before is not said to be good by what came after.
    await expect(trustedKeys([two.jwk], published)).resolves.toEqual([three.jwk, two.jwk]);
    await expect(trustedKeys([one.jwk], [two.jwk, three.jwk])).resolves.toEqual([]);
  });

  test('takes nothing that is not signed by a key of the chain, under its own name', async () => {
    const one = await newLink();
    const stranger = await newLink();
    const theirs = await newLink(stranger);
    const forged = { ...theirs.jwk, signedBy: { ...theirs.jwk.signedBy, kid: one.jwk.kid } };
    const renamed = { ...stranger.jwk, kid: one.jwk.kid };
    const two = await newLink(one);
    const swapped = { ...stranger.jwk, signedBy: two.jwk.signedBy };
    const off = { ...two.jwk, x: 'B'.repeat(43) };
    for (const bad of [stranger.jwk, theirs.jwk, forged, renamed, swapped, off]) {
      const published = [one.jwk, { ...bad, signedBy: sound(bad.signedBy) }];
      await expect(trustedKeys([one.jwk], published)).resolves.toEqual([one.jwk]);
    }
  });
});

function sound(signedBy: { kid: string; signature?: string } | undefined) {
  return signedBy === undefined
    ? undefined
    : { kid: signedBy.kid, signature: signedBy.signature ?? '' };
}
