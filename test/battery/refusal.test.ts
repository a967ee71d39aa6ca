import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { RestCaller } from '../support/relay-machine.ts';
import { startRelay } from '../support/relay.ts';
import { plainTraces } from '../support/secret-search.ts';

// Credentials in the clear are refused before anything is kept of them: job-dispatch.md section 13, item 3.

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const CONNECTIONS = '/environments/default/connections';

test.each<[string, (canary: string) => object]>([
  ['at the top', password => ({ password })],
  ['in the target', password => ({ target: { kind: 'machine', id: 'm', password } })],
  ['in an envelope', password => ({ envelope: { v: 1, suite: 'p256', kid: 'k', password } })],
  ['in a list', password => ({ labels: [{ more: [{ password }] }] })],
  ['of another case', password => ({ name: { PassWord: password } })],
  ['under a longer name', password => ({ userPassword: password })],
  ['as the members of a plaintext', p => ({ d: '', u: 'ann', p })],
])('a password %s is refused, and is in no log, record or answer', async (_where, bodyOf) => {
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN, logLevel: 'debug' });
  const admin = new RestCaller(relay.httpUrl, TOKEN);
  const canary = randomBytes(24).toString('base64url');
  const id = `c-${randomBytes(16).toString('hex')}`;
  const body = {
    id,
    name: 'x',
    kind: 'none',
    target: { kind: 'machine', id: 'm' },
    ...bodyOf(canary),
  };
  for (const [method, path] of [
    ['POST', CONNECTIONS],
    ['PATCH', `${CONNECTIONS}/${id}`],
  ] as const) {
    const answer = await admin.call(method, path, body, { 'if-match': '"1"' });
    expect(answer.status).toBe(400);
    expect(answer.body['code']).toBe('PlaintextCredentialRefused');
    expect(plainTraces(canary, Buffer.from(JSON.stringify(answer.body)))).toEqual([]);
  }
  const kept = await Promise.all(
    ['connections', 'audit'].map(noun => admin.get('GET', `/environments/default/${noun}`)),
  );
  const everything = Buffer.from(JSON.stringify([relay.log.lines, kept]));
  expect(plainTraces(canary, everything)).toEqual([]);
  expect(plainTraces(id, everything)).toEqual([]);
});

test('what is not refused is seen by the same search', async () => {
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN, logLevel: 'debug' });
  const admin = new RestCaller(relay.httpUrl, TOKEN);
  const canary = randomBytes(12).toString('hex');
  await admin.get('POST', '/environments', { id: canary });
  await admin.get('POST', `/environments/${canary}/activation-codes`, { name: canary });
  const codes = await admin.get('GET', `/environments/${canary}/activation-codes`);
  expect(plainTraces(canary, Buffer.from(JSON.stringify(codes)))).toContain('UTF-8');
  // The log says what is wrong with a request, and where: as here the address of one that leads nowhere.
  await fetch(`${relay.httpUrl}/${canary}`);
  expect(plainTraces(canary, Buffer.from(relay.log.lines.join('\n')))).toContain('UTF-8');
});
