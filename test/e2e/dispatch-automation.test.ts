import { expect, test } from 'vitest';
import { signWebhook } from '../../src/dispatch/webhook-signature.ts';
import { connectionTo, RelayMachine, RestCaller, stateOf } from '../support/relay-machine.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const JOB = { ref: 'orders', kind: 'command', command: ['true'] };

/** Somebody outside who knows a secret and nothing else. */
async function deliver(
  relay: TestRelay,
  path: string,
  { id, secret, body }: { readonly id: string; readonly secret: string; readonly body: string },
) {
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const response = await fetch(`${relay.httpUrl}/$api/v1/hooks/dev/${path}`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': signWebhook(secret, { id, timestamp }, body),
    },
  });
  const answer: unknown = await response.json();
  const isRun = typeof answer === 'object' && answer !== null && 'id' in answer;
  return { status: response.status, runId: isRun ? String(answer.id) : undefined };
}

test('a signed request from outside starts a run with what it says, once', async () => {
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN });
  const admin = new RestCaller(relay.httpUrl, TOKEN);
  await admin.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const connectionId = await connectionTo(admin, machine.id);
  const made = await admin.get('POST', '/environments/dev/triggers', {
    name: 'shop',
    run: { connectionId, job: JOB, mode: 'attended' },
  });
  const secret = String(made['secret']).replace('whsec_', '');
  const path = String(made['id']);
  const about = { id: 'msg_1', secret, body: '{"order":"ü-7"}' };
  const first = await deliver(relay, path, about);
  expect(first.status).toBe(202);
  await until(
    'the run is over',
    async () => (await stateOf(admin, first.runId ?? '')) === 'Succeeded',
  );
  expect(machine.offers[0]?.inputs).toEqual({ payload: { order: 'ü-7' } });
  await expect(deliver(relay, path, about)).resolves.toEqual({ ...first, status: 200 });
  const stranger = Buffer.from('another').toString('base64');
  const refused = { status: 401, runId: undefined };
  await expect(deliver(relay, path, { ...about, secret: stranger })).resolves.toEqual(refused);
  await expect(deliver(relay, 'none', about)).resolves.toEqual(refused);
  expect(machine.offers).toHaveLength(1);
  expect(relay.log.lines.join('\n')).not.toContain(secret);
});

test('a test of a connection signs in at its machine, and fails at once when that is away', async () => {
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN });
  const admin = new RestCaller(relay.httpUrl, TOKEN);
  await admin.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(admin);
  const connectionId = await connectionTo(admin, machine.id);
  const path = `/environments/dev/connections/${connectionId}:test`;
  const away = await admin.get('POST', path, {});
  await until('it failed', async () => (await stateOf(admin, String(away['id']))) === 'Failed');
  await machine.connect();
  const there = await admin.get('POST', path, {});
  await until(
    'it is over',
    async () => (await stateOf(admin, String(there['id']))) === 'Succeeded',
  );
  expect(machine.offers.map(({ job }) => job.kind)).toEqual(['probe']);
});
