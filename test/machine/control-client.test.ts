import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Routes } from '../../src/client/routes.ts';
import { ControlClient, ControlError, skewText } from '../../src/machine/control-client.ts';
import { fakeControlPlane, problem } from '../support/fake-control-plane.ts';
import { freePort } from '../support/ports.ts';

async function failure(promise: Promise<unknown>): Promise<ControlError> {
  const error: unknown = await promise.then(
    () => undefined,
    (why: unknown) => why,
  );
  if (error instanceof ControlError) return error;
  throw new Error(`no ControlError: ${String(error)}`);
}

describe('ControlClient', () => {
  test('call() sends token, JSON and If-Match, and reads body and ETag', async () => {
    await using plane = await fakeControlPlane(() => ({
      body: { a: 1 },
      headers: { ETag: '"7"' },
    }));
    const answer = await plane.client.call({
      method: 'PUT',
      path: '/x?y=1',
      token: 'hwt_1',
      ifMatch: '"6"',
      body: { b: 2 },
    });
    expect(answer).toEqual({ status: 200, body: { a: 1 }, etag: '"7"' });
    const [asked] = plane.asked;
    expect(asked).toMatchObject({ method: 'PUT', path: '/$api/v1/x?y=1', json: { b: 2 } });
    expect(asked?.headers).toMatchObject({ authorization: 'Bearer hwt_1', 'if-match': '"6"' });
  });

  test('a refusal has its code, its words, all faults and when to come again', async () => {
    const errors = [{ path: 'name', message: 'is too long' }];
    await using plane = await fakeControlPlane(() => ({
      ...problem(400, 'RequestMalformed', { detail: 'The request is not valid', errors }),
      headers: { 'Content-Type': 'application/problem+json', 'Retry-After': '7' },
    }));
    const error = await failure(plane.client.call({ method: 'POST', path: '/x', body: {} }));
    expect(error).toMatchObject({ code: 'RequestMalformed', status: 400, retryAfterMs: 7_000 });
    expect(error.message).toBe('The request is not valid (name is too long)');
    expect(error.isTransient).toBe(false);
  });

  test('a conflict of leases is final, a store that is away is not', async () => {
    await using plane = await fakeControlPlane(() => problem(409, 'LeaseLost'));
    const lost = await failure(plane.client.call({ method: 'PUT', path: '/x' }));
    expect([lost.code, lost.isTransient]).toEqual(['LeaseLost', false]);
    plane.use(() => problem(503, 'StoreUnavailable'));
    const away = await failure(plane.client.call({ method: 'PUT', path: '/x' }));
    expect([away.code, away.isTransient]).toEqual(['StoreUnavailable', true]);
  });

  test('an answer that is no problem is Unreachable, and not the control plane', async () => {
    await using plane = await fakeControlPlane(() => ({ status: 502, body: { error: 'bad' } }));
    const error = await failure(plane.client.call({ method: 'GET', path: '/x' }));
    expect(error.code).toBe('Unreachable');
    expect(error.isTransient).toBe(true);
    expect(error.message).toContain('answered 502, which is not an answer of the control plane');
  });

  test.each([
    [500, 'Unreachable', true],
    [429, 'Unreachable', true],
    [413, 'RequestMalformed', false],
    [405, 'RequestMalformed', false],
  ])('a problem of %i that is none of the domain is %s', async (status, code, isTransient) => {
    const more = { detail: 'in its words', trackingId: 't1' };
    await using plane = await fakeControlPlane(() => problem(status, 'Novelty', more));
    const error = await failure(plane.client.call({ method: 'GET', path: '/x' }));
    expect(error).toMatchObject({ code, isTransient, status });
    expect(error.message).toContain(`answered ${status}: in its words [t1]`);
  });

  test('nobody there is Unreachable, with the address and why', async () => {
    const origin = `http://127.0.0.1:${await freePort()}`;
    const client = new ControlClient({ origin, routes: new Routes(), clock: systemClock });
    const error = await failure(client.call({ method: 'GET', path: '/x' }));
    expect(error.code).toBe('Unreachable');
    expect(error.message).toContain(origin);
  });

  test('an answer that is too long is cut off', async () => {
    const long = 'x'.repeat(5 * 1024 * 1024);
    await using plane = await fakeControlPlane(() => ({ body: { long } }));
    const error = await failure(plane.client.call({ method: 'GET', path: '/x' }));
    expect(error.message).toContain('longer than any answer should be');
  });

  test('a clock that is ahead is measured, and told where tokens fail for it', async () => {
    const hourAgo = new Date(Date.now() - 3_600_000).toUTCString();
    await using plane = await fakeControlPlane(() => ({
      ...problem(401, 'AuthTokenNotYetValid', { detail: 'The clocks are too far apart' }),
      headers: { Date: hourAgo },
    }));
    const error = await failure(plane.client.call({ method: 'POST', path: '/x' }));
    expect(error.code).toBe('AuthTokenNotYetValid');
    expect(error.message).toMatch(/clock is 60 min [0-2] s ahead of the control plane's: set it/);
    expect(Math.abs((plane.client.skewMs ?? 0) - 3_600_000)).toBeLessThan(3_000);
    expect(Math.abs(plane.client.serverNowMs() - (Date.now() - 3_600_000))).toBeLessThan(3_000);
  });
});

test('skewText() says which way and how much', () => {
  expect(skewText(125_000)).toBe('2 min 5 s ahead of');
  expect(skewText(-10_000)).toBe('10 s behind');
});
