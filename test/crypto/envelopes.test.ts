import { beforeAll, describe, expect, test } from 'vitest';
import { credentialBytes, sealEnvelope } from '../../src/crypto/envelope.ts';
import type { Envelope, KeyHolder, Purpose } from '../../src/crypto/envelope.ts';
import { unwrapGroupKey, wrapGroupKey, type GroupPackage } from '../../src/crypto/group-package.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { openEnvelope, readCredential } from '../../src/crypto/open-envelope.ts';

const CREDENTIAL = { domain: 'CONTOSO', user: 'svc-bot', password: 'pässword' };
const PURPOSE: Purpose = { type: 'credential', object: 'connection', id: 'c-1', version: 3 };

let key: OpeningKey;
let other: OpeningKey;
let holder: KeyHolder;
let envelope: Envelope;

beforeAll(async () => {
  key = await openingKeyOf(await newScalar());
  other = await openingKeyOf(await newScalar());
  holder = { tenant: 't', environment: 'e', kind: 'machine', id: 'm-1', kid: key.kid };
  envelope = await sealEnvelope(key.publicKey, holder, PURPOSE, credentialBytes(CREDENTIAL));
});

describe('openEnvelope', () => {
  test('gives back what was sealed, with any of the keys of its holder', async () => {
    const opened = await openEnvelope([other, key], holder, PURPOSE, envelope);
    if (typeof opened === 'string') throw new Error(opened);
    expect(opened.length).toBe(256);
    expect(readCredential(opened)).toEqual(CREDENTIAL);
  });

  test.each<[string, Partial<KeyHolder>, Partial<Purpose>]>([
    ['another tenant', { tenant: 't2' }, {}],
    ['another environment', { environment: 'e2' }, {}],
    ['a group instead of its machine', { kind: 'group' }, {}],
    ['another machine', { id: 'm-2' }, {}],
    ['another connection', {}, { id: 'c-2' }],
    ['another version', {}, { version: 2 }],
    ['a data source', {}, { object: 'datasource' }],
  ])('stays shut for %s', async (_what, changedHolder, changedPurpose) => {
    const opened = await openEnvelope(
      [key],
      { ...holder, ...changedHolder },
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a purpose with one field changed
      { ...PURPOSE, ...changedPurpose } as Purpose,
      envelope,
    );
    expect(opened).toBe('CredentialContextMismatch');
  });

  test('stays shut for a key that it does not name, and for one that only has the name', async () => {
    expect(await openEnvelope([other], holder, PURPOSE, envelope)).toBe('KeyIdUnknown');
    const impostor = { ...other, kid: key.kid };
    expect(await openEnvelope([impostor], holder, PURPOSE, envelope)).toBe(
      'CredentialContextMismatch',
    );
  });

  test.each([
    [
      'a point off the curve',
      { enc: Buffer.alloc(65, 4).toString('base64url') },
      'CredentialContextMismatch',
    ],
    ['a short point', { enc: 'BBBB' }, 'CredentialCannotBeOpened'],
    ['no ciphertext', { ct: '' }, 'CredentialCannotBeOpened'],
    ['no base64url', { ct: '++++' }, 'CredentialCannotBeOpened'],
  ])('stays shut for %s', async (_what, changed, fault) => {
    expect(await openEnvelope([key], holder, PURPOSE, { ...envelope, ...changed })).toBe(fault);
  });
});

describe('credentialBytes', () => {
  test('has the same length for passwords of different lengths', () => {
    const short = credentialBytes({ ...CREDENTIAL, password: 'x' });
    const long = credentialBytes({ ...CREDENTIAL, password: 'x'.repeat(100) });
    expect([short.length, long.length]).toEqual([256, 256]);
  });
});

describe('unwrapGroupKey', () => {
  let wrapped: GroupPackage;
  let kid: string;
  beforeAll(async () => {
    const scalar = await newScalar();
    ({ kid } = await openingKeyOf(scalar));
    wrapped = await wrapGroupKey(scalar, { groupId: 'g-1', kid, generation: 1 }, 'right password');
  });

  test('takes no other password', async () => {
    expect(await unwrapGroupKey(wrapped, 'wrong password', kid)).toBe('wrong-password');
  });

  test('takes a password in either of its Unicode forms', async () => {
    const scalar = await newScalar();
    const own = await openingKeyOf(scalar);
    const about = { groupId: 'g-1', kid: own.kid, generation: 1 };
    const composed = await wrapGroupKey(scalar, about, 'Gr\u00fc\u00dfe aus K\u00f6ln');
    expect(
      await unwrapGroupKey(composed, 'Gru\u0308\u00dfe aus Ko\u0308ln', own.kid),
    ).toMatchObject({
      key: { kid: own.kid },
    });
  });

  test('refuses parameters that make guessing cheap, whatever the server says', async () => {
    for (const kdf of [{ N: 2 }, { N: 2 ** 15 }, { r: 1 }, { N: 100_000 }, { N: 2 ** 30 }]) {
      const weak = { ...wrapped, kdf: { ...wrapped.kdf, ...kdf } };
      expect(await unwrapGroupKey(weak, 'right password', kid)).toBe('kdf-too-weak');
    }
  });

  test.each<[string, Partial<GroupPackage>]>([
    ['its group', { groupId: 'g-2' }],
    ['its generation', { generation: 2 }],
    ['its nonce', { nonce: 'AAAAAAAAAAAAAAAA' }],
  ])('notices that somebody changed %s', async (_what, changed) => {
    expect(await unwrapGroupKey({ ...wrapped, ...changed }, 'right password', kid)).toBe(
      'wrong-password',
    );
  });

  test('notices a key that is not the one the group is known by', async () => {
    expect(await unwrapGroupKey(wrapped, 'right password', other.kid)).toBe('wrong-key');
  });
});
