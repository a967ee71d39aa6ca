import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { signToken } from '../../src/auth/sign-token.ts';
import { TokenVerifier, type TokenClaim, type Verdict } from '../../src/auth/verify-token.ts';
import type { SasRule } from '../../src/protocol/resources.ts';
import { formatSasToken } from '../../src/protocol/sas-token.ts';
import signatures from '../fixtures/sas-signatures.json' with { type: 'json' };

const crypto = vi.hoisted(() => ({ hmacs: 0 }));
vi.mock('node:crypto', async importOriginal => {
  const original = await importOriginal<typeof import('node:crypto')>();
  const createHmac: typeof original.createHmac = (...args) => {
    crypto.hmacs += 1;
    return original.createHmac(...args);
  };
  return { ...original, createHmac };
});

const NOW_MS = 1_800_000_000_000;
const NOW_SEC = NOW_MS / 1_000;

const LISTEN: SasRule = { name: 'listenRule', rights: ['Listen'], primaryKey: signatures.key };
const SEND: SasRule = {
  name: 'sendRule',
  rights: ['Send'],
  primaryKey: 'first key',
  secondaryKey: 'second key',
};
const ROOT: SasRule = {
  name: 'RootManageSharedAccessKey',
  rights: ['Listen', 'Send', 'Manage'],
  primaryKey: 'root key',
};

function tokenOf(
  rule: SasRule,
  changes: { audience?: string; key?: string; keyName?: string; expiresAtSec?: number } = {},
): string {
  return signToken({
    audience: changes.audience ?? 'http://relay.example.com/hyco/',
    keyName: changes.keyName ?? rule.name,
    key: changes.key ?? rule.primaryKey,
    expiresAtSec: changes.expiresAtSec ?? NOW_SEC + 60,
  });
}

/** What a fresh verifier says to a token that wants to send to `hyco/orders`, unless changed. */
function verdictOn(token: string | undefined, changes: Partial<TokenClaim> = {}): Verdict {
  return new TokenVerifier().verify({ ...CLAIM, token, ...changes });
}

const CLAIM: TokenClaim = {
  token: undefined,
  entityRules: [LISTEN, SEND],
  namespaceRules: [ROOT],
  hosts: ['relay.example.com'],
  segments: ['hyco', 'orders'],
  right: 'Send',
  wallMs: NOW_MS,
};

describe('verify() lets in', () => {
  test.each(signatures.good)('the token of $name', ({ sr, signature }) => {
    const token = formatSasToken({
      encodedAudience: sr,
      signature,
      expiresAtSec: signatures.expiresAtSec,
      keyName: 'listenRule',
    });
    expect(verdictOn(token, { right: 'Listen' })).toEqual({
      ok: true,
      keyName: 'listenRule',
      expiresAtMs: 1_893_456_000_000,
    });
  });

  test.each(['hyco-https', 'hyco-ws'])('the token that %s makes', name => {
    const client: {
      createRelayToken(uri: string, keyName: string, key: string, lifeSec: number): string;
      createRelaySendUri(host: string, path: string): string;
    } = createRequire(import.meta.url)(name);
    const uri = client.createRelaySendUri('relay.example.com', 'hyco');
    const token = client.createRelayToken(uri, SEND.name, SEND.primaryKey, 60);
    const verdict = verdictOn(token, { wallMs: Date.now() });
    expect(verdict).toMatchObject({ ok: true, keyName: SEND.name });
  });

  test('a token signed with the secondary key', () => {
    expect(verdictOn(tokenOf(SEND, { key: 'second key' })).ok).toBe(true);
  });

  test("a namespace's rule, which covers its hybrid connections", () => {
    expect(verdictOn(tokenOf(ROOT))).toMatchObject({ ok: true, keyName: ROOT.name });
    expect(verdictOn(tokenOf(ROOT), { entityRules: [] }).ok).toBe(true);
  });

  test('a rule named in another case', () => {
    expect(verdictOn(tokenOf(SEND, { keyName: 'SENDRULE' }))).toMatchObject({
      keyName: 'sendRule',
    });
  });

  test('a rule of the namespace when one of the same name on the entity did not sign', () => {
    const namesake: SasRule = { ...ROOT, rights: ['Listen'], primaryKey: 'another key' };
    expect(verdictOn(tokenOf(ROOT), { entityRules: [namesake] }).ok).toBe(true);
  });

  test("by the entity's rule, when one of the namespace has the same name and key", () => {
    const narrow: SasRule = { ...ROOT, rights: ['Send'] };
    const claim = { entityRules: [narrow], right: 'Listen' } as const;
    expect(verdictOn(tokenOf(ROOT), claim)).toMatchObject({ reason: 'right-missing' });
    expect(verdictOn(tokenOf(ROOT), { ...claim, right: 'Send' }).ok).toBe(true);
  });

  test('whoever may manage', () => {
    const manage: SasRule = { name: 'm', rights: ['Manage'], primaryKey: 'm key' };
    expect(verdictOn(tokenOf(manage), { entityRules: [manage] }).ok).toBe(true);
  });

  test('a token in its last second', () => {
    expect(verdictOn(tokenOf(SEND), { wallMs: NOW_MS + 59_999 }).ok).toBe(true);
  });
});

describe('verify() refuses', () => {
  test.each<[string, string | undefined, Partial<TokenClaim>, object]>([
    ['no token', undefined, {}, { reason: 'token-missing' }],
    ['an empty token', ' ', {}, { reason: 'token-missing' }],
    ['a text that is no token', 'Basic eDp5', {}, { reason: 'token-malformed' }],
    [
      'an Entra token, saying so',
      'eyJhbGciOiJub25lIn0.eyJhdWQiOiJodHRwczovL3JlbGF5LmF6dXJlLm5ldCJ9.c2ln',
      {},
      {
        reason: 'token-malformed',
        detail: 'Microsoft Entra tokens (JWT) are not supported; send a SharedAccessSignature',
      },
    ],
    ['another key', tokenOf(SEND, { key: 'third key' }), {}, { reason: 'signature-invalid' }],
    ['an unknown rule', tokenOf(SEND, { keyName: 'x' }), {}, { reason: 'signature-invalid' }],
    [
      'a changed expiry',
      tokenOf(SEND).replace(/se=\d+/, `se=${NOW_SEC + 61}`),
      {},
      { reason: 'signature-invalid' },
    ],
    [
      'an audience whose hex changed case',
      tokenOf(SEND).replaceAll('%3A', '%3a'),
      {},
      { reason: 'signature-invalid' },
    ],
    [
      'a token in the second it expires',
      tokenOf(SEND),
      { wallMs: NOW_MS + 60_000 },
      { reason: 'token-expired', detail: "'2027-01-15 08:01:00Z'" },
    ],
    [
      'another path',
      tokenOf(SEND, { audience: 'http://relay.example.com/hycox' }),
      {},
      { reason: 'audience-wrong' },
    ],
    [
      'another host',
      tokenOf(SEND, { audience: 'http://other.example.com/hyco' }),
      {},
      { reason: 'audience-wrong' },
    ],
    [
      'an audience without a scheme',
      tokenOf(SEND, { audience: 'relay.example.com/hyco' }),
      {},
      { reason: 'audience-wrong' },
    ],
    ['a missing right', tokenOf(LISTEN), {}, { reason: 'right-missing', detail: 'Send' }],
    [
      'a missing right to manage',
      tokenOf(SEND),
      { right: 'Manage' },
      { reason: 'right-missing', detail: 'Manage' },
    ],
  ])('%s', (_, token, changes, refusal) => {
    expect(verdictOn(token, changes)).toEqual({ ok: false, ...refusal });
  });

  test('the wrong signature of the reference, made with the decoded key', () => {
    const { sr, signature } = signatures.wrong;
    const { expiresAtSec } = signatures;
    const token = formatSasToken({
      encodedAudience: sr,
      signature,
      expiresAtSec,
      keyName: 'listenRule',
    });
    expect(verdictOn(token, { right: 'Listen' })).toEqual({
      ok: false,
      reason: 'signature-invalid',
    });
  });

  test('an empty key, which anybody could sign with', () => {
    const open: SasRule = { name: 'open', rights: ['Send'], primaryKey: '', secondaryKey: '' };
    expect(verdictOn(tokenOf(open), { entityRules: [open] })).toMatchObject({
      reason: 'signature-invalid',
    });
  });

  test('an expired token with a bad signature for its signature: its expiry is anybody’s word', () => {
    expect(verdictOn(tokenOf(SEND, { key: 'x', expiresAtSec: 1 }))).toMatchObject({
      reason: 'signature-invalid',
    });
  });

  test('without ever throwing', () => {
    const part = fc.oneof(
      fc.constantFrom(
        'SharedAccessSignature ',
        'sr=h',
        '&sig=',
        '&se=1',
        '&skn=sendRule',
        '.',
        'eyJ',
      ),
      fc.string({ unit: 'binary', maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(part), parts => {
        expect(verdictOn(parts.join('')).ok).toBe(false);
      }),
    );
  });
});

/** A verifier that has let a token in, and the claim that it let in; signatures are counted from here. */
function seen(): { verifier: TokenVerifier; claim: TokenClaim } {
  const verifier = new TokenVerifier();
  const claim = { ...CLAIM, token: tokenOf(SEND) };
  expect(verifier.verify(claim).ok).toBe(true);
  crypto.hmacs = 0;
  return { verifier, claim };
}

describe('a verifier that has seen a token', () => {
  test('computes no signature for it again', () => {
    const { verifier, claim } = seen();
    expect(verifier.verify(claim).ok).toBe(true);
    expect(crypto.hmacs).toBe(0);
  });

  test('still looks at expiry, audience and right', () => {
    const { verifier, claim } = seen();
    const reasons = [
      { wallMs: NOW_MS + 60_000 },
      { segments: ['other'] },
      { right: 'Listen' as const },
    ].map(change => {
      const verdict = verifier.verify({ ...claim, ...change });
      return verdict.ok ? 'ok' : verdict.reason;
    });
    expect(reasons).toEqual(['token-expired', 'audience-wrong', 'right-missing']);
  });

  test('refuses it as soon as the key was replaced or the rule removed', () => {
    const { verifier, claim } = seen();
    const rotated = { ...SEND, primaryKey: 'new key' };
    const refused = { ok: false, reason: 'signature-invalid' };
    expect(verifier.verify({ ...claim, entityRules: [rotated] })).toEqual(refused);
    expect(verifier.verify({ ...claim, entityRules: [] })).toEqual(refused);
  });

  test('lets it in while its key is still the secondary one', () => {
    const { verifier, claim } = seen();
    const rotated = { ...SEND, primaryKey: 'new key', secondaryKey: SEND.primaryKey };
    expect(verifier.verify({ ...claim, entityRules: [rotated] }).ok).toBe(true);
  });

  test('computes again for a rule of the same name and key elsewhere only what it must', () => {
    const { verifier, claim } = seen();
    const elsewhere = { ...claim, entityRules: [{ ...SEND, primaryKey: 'theirs' }] };
    expect(verifier.verify(elsewhere)).toEqual({ ok: false, reason: 'signature-invalid' });
    expect(verifier.verify(claim).ok).toBe(true);
  });

  test('forgets the tokens that were not used for longest', () => {
    const verifier = new TokenVerifier({ verifiedTokensMax: 2 });
    const tokens = [1, 2, 3].map(life => tokenOf(SEND, { expiresAtSec: NOW_SEC + life }));
    for (const token of tokens) verifier.verify({ ...CLAIM, token });
    crypto.hmacs = 0;
    for (const token of tokens.toReversed()) verifier.verify({ ...CLAIM, token });
    expect(crypto.hmacs).toBe(1);
  });
});
