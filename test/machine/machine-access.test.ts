import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { openCompact, pointOf, verifyingKeyOf } from '../../src/crypto/es256.ts';
import { Routes } from '../../src/client/routes.ts';
import { ControlClient } from '../../src/machine/control-client.ts';
import { MachineAccess } from '../../src/machine/machine-access.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { fakeControlPlane, problem, type Answering } from '../support/fake-control-plane.ts';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const MINUTE_MS = 60_000;

async function bench(of: { readonly call?: Answering; readonly exchange?: Answering } = {}) {
  const clock = new FakeClock();
  let exchanges = 0;
  const at = (ms: number): string => new Date(clock.wallMs() + ms).toISOString();
  const date = (): string => new Date(clock.wallMs()).toUTCString();
  const plane = await fakeControlPlane(async request => {
    const headers = { Date: date() };
    if (!request.path.endsWith('/token')) {
      const answer = await of.call?.(request);
      return { body: {}, ...answer, headers };
    }
    exchanges += 1;
    const special = await of.exchange?.(request);
    if (special?.status !== undefined) return { ...special, headers };
    return {
      headers,
      body: {
        accessToken: `hwm_${exchanges}`,
        accessTokenExpiresAt: at(15 * MINUTE_MS),
        listenToken: `listen ${exchanges}`,
        listenTokenExpiresAt: at(60 * MINUTE_MS),
        relayPath: 'dev/m/m1',
      },
    };
  });
  const client = new ControlClient({ origin: plane.origin, routes: new Routes(), clock });
  const identity = { kid: 'k', privateKey, point: pointOf(privateKey) };
  const access = new MachineAccess({
    client,
    clock,
    identity,
    environment: 'dev',
    machineId: 'm1',
  });
  const tokensUsed = (): readonly (string | undefined)[] =>
    plane.asked
      .filter(({ path }) => !path.endsWith('/token'))
      .map(({ headers }) => headers.authorization);
  return { clock, plane, access, tokensUsed, [Symbol.asyncDispose]: plane[Symbol.asyncDispose] };
}

const CALL = { method: 'GET', path: '/x' } as const;

describe('MachineAccess', () => {
  test('its assertion is signed, for this environment, and shorter than five minutes', async () => {
    await using it = await bench();
    await it.access.call(CALL);
    const [first] = it.plane.asked;
    expect(first?.path).toBe('/$api/v1/environments/dev/machines/m1/token');
    const assertion = /"assertion":"([^"]+)"/.exec(first?.bytes.toString() ?? '')?.[1] ?? '';
    const publicKey = verifyingKeyOf(pointOf(privateKey));
    if (publicKey === undefined) throw new Error('no key');
    const claims = openCompact(assertion, publicKey);
    expect(claims).toMatchObject({ iss: 'm1', sub: 'm1', aud: 'hyco-jobs/1 token dev' });
    expect(Number(claims?.['exp']) - Number(claims?.['iat'])).toBe(240);
  });

  test('one exchange serves many calls at once, and is renewed after two thirds of its life', async () => {
    await using it = await bench();
    await Promise.all([it.access.call(CALL), it.access.call(CALL)]);
    it.clock.advance(9 * MINUTE_MS);
    await it.access.call(CALL);
    it.clock.advance(2 * MINUTE_MS);
    await it.access.call(CALL);
    expect(it.tokensUsed()).toEqual([
      'Bearer hwm_1',
      'Bearer hwm_1',
      'Bearer hwm_1',
      'Bearer hwm_2',
    ]);
  });

  test('while it cannot be renewed the old token is used until it is over', async () => {
    let isAway = false;
    await using it = await bench({
      exchange: () => (isAway ? problem(503, 'StoreUnavailable') : {}),
    });
    await it.access.call(CALL);
    isAway = true;
    it.clock.advance(12 * MINUTE_MS);
    await it.access.call(CALL);
    expect(it.tokensUsed()).toEqual(['Bearer hwm_1', 'Bearer hwm_1']);
    it.clock.advance(4 * MINUTE_MS);
    await expect(it.access.call(CALL)).rejects.toMatchObject({ code: 'StoreUnavailable' });
  });

  test('a token that does not count any more is replaced once', async () => {
    await using it = await bench({
      call: ({ headers }) =>
        headers.authorization === 'Bearer hwm_1'
          ? problem(401, 'TokenInvalid')
          : { body: { ok: 1 } },
    });
    expect((await it.access.call(CALL)).body).toEqual({ ok: 1 });
    expect(it.tokensUsed()).toEqual(['Bearer hwm_1', 'Bearer hwm_2']);
  });

  test('a machine that is not registered any more is told so', async () => {
    await using it = await bench({ exchange: () => problem(404, 'MachineNotFound') });
    await expect(it.access.call(CALL)).rejects.toMatchObject({ code: 'MachineNotFound' });
  });

  test('listenToken() has its end by the clock of this computer', async () => {
    await using it = await bench();
    const { token, expiresAtMs = 0 } = await it.access.listenToken();
    expect(token).toBe('listen 1');
    expect(Math.abs(expiresAtMs - it.clock.wallMs() - 60 * MINUTE_MS)).toBeLessThan(2_000);
  });
});
