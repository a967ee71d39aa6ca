import { describe, expect, test } from 'vitest';
import { silentLogger } from '../support/silent-logger.ts';
import {
  credentialBytes,
  sealEnvelope,
  type KeyHolder,
  type Purpose,
} from '../../src/crypto/envelope.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import type { Offer } from '../../src/jobs/messages.ts';
import { offerOf } from '../support/signed-messages.ts';
import { credentialOpener, type HeldKeys } from '../../src/machine/credential-opener.ts';

const machineKey = await openingKeyOf(await newScalar());
const groupKey = await openingKeyOf(await newScalar());
const strangeKey = await openingKeyOf(await newScalar());

const HELD: HeldKeys = {
  tenant: 'default',
  environment: 'dev',
  machineId: 'm1',
  machineKeys: [machineKey],
  group: { id: 'g1', keys: [groupKey] },
};
const CREDENTIAL: Purpose = { type: 'credential', object: 'connection', id: 'c1', version: 3 };

const opener = credentialOpener(() => HELD, silentLogger);

async function envelope(
  change: Partial<KeyHolder> = {},
  key: OpeningKey = machineKey,
  purpose: Purpose = CREDENTIAL,
  bytes = credentialBytes({ domain: 'CORP', user: 'ann', password: 'pa55 wörd' }),
) {
  const own = {
    tenant: 'default',
    environment: 'dev',
    kind: 'machine',
    id: 'm1',
    kid: key.kid,
  } as const;
  return sealEnvelope(key.publicKey, { ...own, ...change }, purpose, bytes);
}

function inputOf(plaintext: string) {
  const purpose = { type: 'input', runId: 'r1', name: 'key' } as const;
  return envelope({}, machineKey, purpose, Uint8Array.from(Buffer.from(plaintext)));
}

const GROUP_CONNECTION = { id: 'c1', version: 3, targetKind: 'group', targetId: 'g1' } as const;

describe('open()', () => {
  test('opens what was sealed to this machine for this connection', async () => {
    const opened = await opener.open(offerOf({ credential: await envelope() }));
    expect(opened).toEqual({ user: 'ann', domain: 'CORP', password: Buffer.from('pa55 wörd') });
  });

  test('opens what was sealed to the group that this machine is in', async () => {
    const credential = await envelope({ kind: 'group', id: 'g1' }, groupKey);
    const opened = await opener.open(offerOf({ credential, connection: GROUP_CONNECTION }));
    expect(opened.user).toBe('ann');
  });

  test.each<[string, string, () => Promise<Offer>]>([
    [
      'a key that it does not have',
      'KeyIdUnknown',
      async () => offerOf({ credential: await envelope({}, strangeKey) }),
    ],
    [
      "another connection's envelope",
      'CredentialContextMismatch',
      async () =>
        offerOf({ credential: await envelope({}, machineKey, { ...CREDENTIAL, id: 'c2' }) }),
    ],
    [
      'an envelope of another version',
      'CredentialContextMismatch',
      async () =>
        offerOf({ credential: await envelope({}, machineKey, { ...CREDENTIAL, version: 2 }) }),
    ],
    [
      "another machine's",
      'CredentialContextMismatch',
      async () => offerOf({ credential: await envelope({ id: 'm2' }) }),
    ],
    [
      'another environment',
      'CredentialContextMismatch',
      async () => offerOf({ credential: await envelope({ environment: 'prod' }) }),
    ],
    [
      'another tenant',
      'CredentialContextMismatch',
      async () => offerOf({ credential: await envelope({ tenant: 'other' }) }),
    ],
    [
      "the group's, in an offer for the machine",
      'CredentialContextMismatch',
      async () => offerOf({ credential: await envelope({ kind: 'group', id: 'g1' }, groupKey) }),
    ],
    [
      "the machine's, in an offer for the group",
      'CredentialContextMismatch',
      async () => offerOf({ credential: await envelope(), connection: GROUP_CONNECTION }),
    ],
    [
      'an offer for another machine',
      'CredentialContextMismatch',
      async () =>
        offerOf({
          credential: await envelope(),
          connection: { id: 'c1', version: 3, targetKind: 'machine', targetId: 'm2' },
        }),
    ],
    [
      'a data source in place of a connection',
      'CredentialContextMismatch',
      async () =>
        offerOf({
          credential: await envelope({}, machineKey, { ...CREDENTIAL, object: 'datasource' }),
        }),
    ],
    [
      'an input in place of a credential',
      'CredentialContextMismatch',
      async () =>
        offerOf({
          credential: await envelope({}, machineKey, { type: 'input', runId: 'r1', name: 'x' }),
        }),
    ],
    [
      'a changed ciphertext',
      'CredentialContextMismatch',
      async () => {
        const good = await envelope();
        const ct = `${good.ct.startsWith('A') ? 'B' : 'A'}${good.ct.slice(1)}`;
        return offerOf({ credential: { ...good, ct } });
      },
    ],
    [
      'something that is no envelope',
      'CredentialCannotBeOpened',
      async () => offerOf({ credential: { ...(await envelope()), enc: 'A'.repeat(86) } }),
    ],
  ])('refuses %s', async (_name, code, made) => {
    await expect(opener.open(await made())).rejects.toMatchObject({ code });
  });

  test('refuses a plaintext that is no account', async () => {
    const holder = {
      tenant: 'default',
      environment: 'dev',
      kind: 'machine',
      id: 'm1',
      kid: machineKey.kid,
    } as const;
    const bytes = Uint8Array.from(Buffer.from('{"u":1}'));
    const credential = await sealEnvelope(machineKey.publicKey, holder, CREDENTIAL, bytes);
    await expect(opener.open(offerOf({ credential }))).rejects.toMatchObject({
      code: 'CredentialCannotBeOpened',
    });
  });

  test('a refusal is logged as a security event, without what was sealed', async () => {
    const lines: string[] = [];
    const log = {
      ...silentLogger,
      warn: (fields: object, message: string) =>
        void lines.push(JSON.stringify({ fields, message })),
    };
    const credential = await envelope({ id: 'm2' });
    await expect(credentialOpener(() => HELD, log).open(offerOf({ credential }))).rejects.toThrow();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('"event":"security"');
    expect(lines[0]).not.toContain(credential.ct);
  });
});

describe('openInputs()', () => {
  test.each([
    ['a text', 'pa55 "wörd" ', 'pa55 "wörd" '],
    ['anything else', { a: [1, null] }, '{"a":[1,null]}'],
  ])('gives of %s the bytes that a log must not have', async (_what, value, bytes) => {
    const sealed = await inputOf(JSON.stringify(value).padEnd(256));
    const opened = await opener.openInputs(offerOf({ sealedInputs: { key: sealed } }));
    expect(opened['key']?.toString()).toBe(bytes);
  });

  test('refuses what is no JSON', async () => {
    const sealed = await inputOf('geheim');
    await expect(
      opener.openInputs(offerOf({ sealedInputs: { key: sealed } })),
    ).rejects.toMatchObject({ code: 'CredentialCannotBeOpened' });
  });

  test('opens each by the name and run that it was sealed for, and none under another', async () => {
    const sealed = await inputOf('"pa55 wörd"');
    const opened = await opener.openInputs(offerOf({ sealedInputs: { key: sealed } }));
    expect(opened['key']?.toString()).toBe('pa55 wörd');
    await expect(
      opener.openInputs(offerOf({ sealedInputs: { other: sealed } })),
    ).rejects.toMatchObject({ code: 'CredentialContextMismatch' });
    await expect(
      opener.openInputs(offerOf({ runId: 'r2', sealedInputs: { key: sealed } })),
    ).rejects.toMatchObject({ code: 'CredentialContextMismatch' });
  });
});
