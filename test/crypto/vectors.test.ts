import { expect, test } from 'vitest';
import { clusterKeyOf } from '../../src/crypto/cluster-key.ts';
import { bindingOf } from '../../src/crypto/envelope.ts';
import { unwrapGroupKey, wrapGroupKey } from '../../src/crypto/group-package.ts';
import { deriveScalar, open, seal } from '../../src/crypto/hpke.ts';
import { openingKeyOf } from '../../src/crypto/key-pair.ts';

// The vectors of job-dispatch.md section 18, and the key derivation of RFC 9180 appendix A.3.1.

const CLUSTER_ID = '3f0c1a9e-6d1b-4f51-9c0e-7b2a51c0d001';
const CLUSTER_SCALAR = '40e08a0b0907bdba4f759d80e977632343b1d2abdf2d8eacd0c6fd6b65d6ddd6';

function counting(from: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => from + index);
}

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

test('RFC 9180 A.3.1: DeriveKeyPair', async () => {
  const scalar = await deriveScalar(
    fromHex('4270e54ffd08d79d5928020af4686d8f6b7d35dbe470265f1f5aa22816ce860e'),
  );
  expect(hex(scalar)).toBe('4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb');
  expect(hex((await openingKeyOf(scalar)).point)).toBe(
    '04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac9' +
      '8536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4',
  );
});

test('V1: a cluster key comes of its recovery key', async () => {
  const key = await clusterKeyOf('correct horse battery staple 2026', {
    clusterId: CLUSTER_ID,
    generation: 1,
    salt: counting(0, 16),
  });
  expect(key.kid).toBe('-ViOn1clNk93GAnRtC5m-GaPG4hXcSx0U1lbVyV4C4c');
  expect(hex(key.point)).toBe(
    '0430bce4b30caff15ea78cac18ab89e2e6077dfbb5d6aa3d4d1cda3f88bf842136' +
      'cbc23ff82d2ec71d06a0b83479af9dec8c0c115b3077052a648b5b464320d7d2',
  );
  expect((await openingKeyOf(fromHex(CLUSTER_SCALAR))).kid).toBe(key.kid);
});

test('V2: a credential is sealed to that key, and opens', async () => {
  const recipient = await openingKeyOf(fromHex(CLUSTER_SCALAR));
  const ephemeral = await openingKeyOf(await deriveScalar(counting(0x40, 32)));
  const binding = bindingOf(
    {
      tenant: 'tenant-a',
      environment: 'env-1',
      kind: 'cluster',
      id: CLUSTER_ID,
      kid: recipient.kid,
    },
    { type: 'credential', object: 'connection', id: 'c-0001', version: 1 },
  );
  const plaintext = '{"d":"CONTOSO","p":"s3cret!","u":"svc-bot"}';
  const sealed = await seal(
    recipient.publicKey,
    binding,
    Uint8Array.from(Buffer.from(plaintext)),
    ephemeral,
  );
  expect(hex(sealed.enc)).toBe(
    '045864aa8afdd60e38f39ec9a28d9719c273654690310c5c268bc70adecad75975' +
      'd2a3cfff4abb3f373a0c725ba9bc936a5b1936074c13c9089d130fa79672a557',
  );
  expect(hex(sealed.ct)).toBe(
    'a78beaa1992485a5b29af6afa02089136be12e977324f15208a3d77ab9557a8953fc525c1c2e89572bd6fa0811c8ffb3b76dd88570eb9dbfc802d9',
  );
  const opened = await open(recipient, binding, sealed);
  expect(new TextDecoder().decode(opened)).toBe(plaintext);
});

test('V3: a group key is wrapped under its password, and unwraps', async () => {
  const scalar = await deriveScalar(counting(0x80, 32));
  expect(hex(scalar)).toBe('497788833941a9c0254c641ac5afad4d1c18f045548ab8ed9f336c74b34f2a8d');
  const { kid } = await openingKeyOf(scalar);
  expect(kid).toBe('-5HaTKysRL0yKoq2eCjvbkxa78kWWXc2LlnpYsYInR8');
  const groupId = 'b7d1e0c2-0a53-4d0f-8f4e-2c6f6c1e0002';
  const wrapped = await wrapGroupKey(
    scalar,
    { groupId, kid, generation: 1 },
    'Tr0ub4dor&3-group-password',
    { salt: counting(0x20, 16), nonce: counting(0x60, 12) },
  );
  expect(Buffer.from(wrapped.wrapped, 'base64url').toString('hex')).toBe(
    'd623126f4f657c9520b6f9a42ff84e5e4c4e76cc6702109bbb68fa14ee08fb3bf067e8877b109bd38c397aa17b084219',
  );
  expect(await unwrapGroupKey(wrapped, 'Tr0ub4dor&3-group-password', kid)).toMatchObject({
    key: { kid },
  });
});
