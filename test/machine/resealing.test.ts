import { describe, expect, test } from 'vitest';
import { credentialBytes, sealEnvelope, type KeyHolder } from '../../src/crypto/envelope.ts';
import { newScalar, openingKeyOf, type OpeningKey } from '../../src/crypto/key-pair.ts';
import { credentialOpener, type HeldKeys } from '../../src/machine/credential-opener.ts';
import { resealed } from '../../src/machine/resealing.ts';
import { offerOf } from '../support/signed-messages.ts';
import { silentLogger } from '../support/silent-logger.ts';

const newKey = async (): Promise<OpeningKey> => openingKeyOf(await newScalar());
const [before, next, ofGroup, stranger] = [
  await newKey(),
  await newKey(),
  await newKey(),
  await newKey(),
];

const HELD: HeldKeys = {
  tenant: 'default',
  environment: 'dev',
  machineId: 'm1',
  machineKeys: [before, next],
  group: { id: 'g1', keys: [ofGroup] },
};

async function sealed(change: Partial<KeyHolder> = {}, version = 3) {
  const own = { tenant: 'default', environment: 'dev', kind: 'machine', id: 'm1' } as const;
  const holder = { ...own, kid: before.kid, ...change };
  const purpose = { type: 'credential', object: 'connection', id: 'c1', version } as const;
  const bytes = credentialBytes({ domain: '', user: 'ann', password: 'secret' });
  return sealEnvelope(before.publicKey, holder, purpose, bytes);
}

async function args(change: object = {}) {
  return {
    tenant: 'default',
    environment: 'dev',
    targetKind: 'machine',
    targetId: 'm1',
    from: { kid: before.kid },
    to: { kid: next.kid },
    items: [{ connectionId: 'c1', version: 3, envelope: await sealed() }],
    ...change,
  };
}

describe('resealed()', () => {
  test('what was sealed to one key opens with the other one, at the next version and no other', async () => {
    const done = await resealed(HELD, await args());
    if (typeof done === 'string') throw new Error(done);
    const [item] = done.items;
    expect(done.refused).toEqual([]);
    expect(item).toMatchObject({ connectionId: 'c1', version: 4, envelope: { kid: next.kid } });
    const opener = credentialOpener(() => ({ ...HELD, machineKeys: [next] }), silentLogger);
    const connection = { id: 'c1', version: 4, targetKind: 'machine', targetId: 'm1' } as const;
    const opened = await opener.open(offerOf({ connection, credential: item?.envelope }));
    expect(opened.password.toString()).toBe('secret');
    const old = offerOf({ connection: { ...connection, version: 3 }, credential: item?.envelope });
    await expect(opener.open(old)).rejects.toMatchObject({ code: 'CredentialContextMismatch' });
  });

  test('a key that is not here is sealed to by nobody, whatever public key comes with its name', async () => {
    const to = { kid: stranger.kid, suite: 'p256', point: 'x' };
    expect(await resealed(HELD, await args({ to }))).toBe('KeyIdUnknown');
    // Nor a key of another holder, though it is here too.
    expect(await resealed(HELD, await args({ to: { kid: ofGroup.kid } }))).toBe('KeyIdUnknown');
    expect(await resealed(HELD, await args({ to: { kid: before.kid } }))).toBe('KeyIdUnknown');
  });

  test.each([
    { tenant: 'other' },
    { environment: 'prod' },
    { targetId: 'm2' },
    { targetKind: 'group', targetId: 'm1' },
    { targetKind: 'group', targetId: 'g2' },
  ])('%o is not this machine: nothing is opened', async change => {
    expect(await resealed(HELD, await args(change))).toBe('CredentialContextMismatch');
  });

  test('what does not open is left out, and said', async () => {
    const items = [
      { connectionId: 'c2', version: 3, envelope: await sealed() },
      { connectionId: 'c1', version: 4, envelope: await sealed() },
      { connectionId: 'c1', version: 3, envelope: await sealed({ id: 'm2' }) },
      { connectionId: 'c1', version: 3, envelope: await sealed() },
    ];
    const done = await resealed(HELD, await args({ items }));
    expect(done).toMatchObject({
      items: [{ connectionId: 'c1', version: 4 }],
      refused: [
        { connectionId: 'c2', code: 'CredentialContextMismatch' },
        { connectionId: 'c1', code: 'CredentialContextMismatch' },
        { connectionId: 'c1', code: 'CredentialContextMismatch' },
      ],
    });
  });

  test('arguments of another form are refused', async () => {
    expect(await resealed(HELD, {})).toBe('RequestMalformed');
    const items = Array.from({ length: 101 }, () => ({}));
    expect(await resealed(HELD, await args({ items }))).toBe('RequestMalformed');
  });
});
