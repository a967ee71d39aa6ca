import { describe, expect, test } from 'vitest';
import { signToken } from '../../src/auth/sign-token.ts';
import { formatRenewToken } from '../../src/protocol/control-messages.ts';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import { send } from '../support/http-sender.ts';
import { listen } from '../support/http-listener.ts';
import { at, callApi, createHybridConnection } from '../support/management.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

interface Keys {
  readonly primaryKey: string;
  readonly secondaryKey: string;
}

function keysIn(body: unknown): Keys {
  return {
    primaryKey: String(at(body, 'primaryKey')),
    secondaryKey: String(at(body, 'secondaryKey')),
  };
}

async function makeRule(relay: TestRelay, path: string, rights: string[]): Promise<Keys> {
  const made = await callApi(relay, 'PUT', path, { body: { properties: { rights } } });
  if (made.status !== 201) throw new Error(`Not made: ${made.status}`);
  return keysIn((await callApi(relay, 'POST', `${path}/listKeys`)).body);
}

function tokenWith(key: string, keyName = 'turning'): string {
  const audience = 'http://127.0.0.1/rotated';
  return signToken({ audience, keyName, key, expiresAtSec: Math.floor(Date.now() / 1000) + 3_600 });
}

async function statusOfListening(relay: TestRelay, token: string): Promise<number> {
  const answer = await dialListener(relay, 'rotated', { token }).answer;
  answer.socket?.sendClose(1000);
  return answer.status;
}

describe.each([
  ['of a namespace', '/authorizationRules/turning'],
  ['of a hybrid connection', '/hybridConnections/rotated/authorizationRules/turning'],
])('keys %s', (_, path) => {
  test('work both, and a replaced one is refused at once while the other goes on', async () => {
    await using relay = await startRelay();
    await createHybridConnection(relay, 'rotated');
    const old = await makeRule(relay, path, ['Listen']);
    // Each is remembered as verified from here on.
    expect(await statusOfListening(relay, tokenWith(old.primaryKey))).toBe(101);
    expect(await statusOfListening(relay, tokenWith(old.secondaryKey))).toBe(101);

    const renewed = await callApi(relay, 'POST', `${path}/regenerateKeys`, {
      body: { keyType: 'PrimaryKey' },
    });
    const { primaryKey } = keysIn(renewed.body);
    expect(await statusOfListening(relay, tokenWith(old.primaryKey))).toBe(401);
    expect(await statusOfListening(relay, tokenWith(old.secondaryKey))).toBe(101);
    expect(await statusOfListening(relay, tokenWith(primaryKey))).toBe(101);

    await callApi(relay, 'POST', `${path}/regenerateKeys`, { body: { keyType: 'SecondaryKey' } });
    expect(await statusOfListening(relay, tokenWith(old.secondaryKey))).toBe(401);
    expect(await statusOfListening(relay, tokenWith(primaryKey))).toBe(101);
  });

  test('are worth nothing once their rule is deleted', async () => {
    await using relay = await startRelay();
    await createHybridConnection(relay, 'rotated');
    const { primaryKey } = await makeRule(relay, path, ['Listen']);
    expect(await statusOfListening(relay, tokenWith(primaryKey))).toBe(101);
    await callApi(relay, 'DELETE', path);
    expect(await statusOfListening(relay, tokenWith(primaryKey))).toBe(401);
  });

  test('have the rights of their rule as it is now', async () => {
    await using relay = await startRelay();
    await createHybridConnection(relay, 'rotated');
    const { primaryKey } = await makeRule(relay, path, ['Listen']);
    const token = tokenWith(primaryKey);
    expect(await statusOfListening(relay, token)).toBe(101);
    await callApi(relay, 'PUT', path, { body: { properties: { rights: ['Send'] } } });
    expect(await statusOfListening(relay, token)).toBe(403);
    // Past the token: there is only nobody who listens.
    expect((await dialSender(relay, 'rotated', { token }).answer).reason).toMatch(/no listeners/);
  });
});

test('a listener stays connected while its key is replaced, and its next renewal needs a good one', async () => {
  await using relay = await startRelay();
  await createHybridConnection(relay, 'rotated');
  const path = '/hybridConnections/rotated/authorizationRules/turning';
  const old = await makeRule(relay, path, ['Listen']);
  const token = tokenWith(old.primaryKey);
  const listener = await openListener(relay, 'rotated', { token });
  await callApi(relay, 'POST', `${path}/regenerateKeys`, { body: { keyType: 'PrimaryKey' } });

  const dialling = dialSender(relay, 'rotated');
  await listener.acceptNext();
  expect((await dialling.answer).status).toBe(101);
  listener.control.send(formatRenewToken(tokenWith(old.secondaryKey)));
  listener.control.send(formatRenewToken(token));
  expect(await listener.control.nextClose()).toMatchObject({ code: 1008 });
});

test('requiresClientAuthorization counts from the next sender on', async () => {
  await using relay = await startRelay();
  await createHybridConnection(relay, 'rotated');
  await using listener = await listen(relay, { path: 'rotated' });
  listener.serve(() => ({ status: 200 }));
  const status = async (): Promise<number> =>
    (await send(relay, '/rotated', { token: null })).status;
  expect(await status()).toBe(401);
  await createHybridConnection(relay, 'rotated', { requiresClientAuthorization: false });
  expect(await status()).toBe(200);
  await createHybridConnection(relay, 'rotated', { requiresClientAuthorization: true });
  expect(await status()).toBe(401);
});
