import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  RelayMachine,
  RestCaller,
  connectionTo,
  startRun,
  stateOf,
} from '../support/relay-machine.ts';
import { makeCertificate } from '../support/certificate.ts';
import { startRelay, type RelayOptions } from '../support/relay.ts';
import { until } from '../support/within.ts';

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';

async function dispatching(options: RelayOptions = {}) {
  const relay = await startRelay({ dispatch: true, apiToken: TOKEN, ...options });
  return { relay, admin: await withEnvironment(new RestCaller(relay.httpUrl, TOKEN)) };
}

async function withEnvironment(admin: RestCaller): Promise<RestCaller> {
  await admin.get('POST', '/environments', { id: 'dev' });
  return admin;
}

async function over(admin: RestCaller, runId: string): Promise<void> {
  await until('the run is over', async () => (await stateOf(admin, runId)) === 'Succeeded');
}

test('a run goes from the REST interface through the relay to its machine, and its result comes back', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const connectionId = await connectionTo(admin, machine.id);
  const runId = await startRun(admin, connectionId);
  await over(admin, runId);
  expect(machine.offers.map(offer => offer.runId)).toEqual([runId]);
  expect(await relay.metric('halfway_dispatch_offers_total{outcome="accepted"}')).toBe(1);
  expect(await relay.metric('halfway_dispatch_latency_seconds_count')).toBe(1);
  expect(await relay.metric('halfway_dispatch_runs_ended_total{state="Succeeded",code=""}')).toBe(
    1,
  );
  expect(await relay.metric('halfway_active_listeners{hybrid_connection="dev/m/*"}')).toBe(1);
  const echo = await admin.call('POST', `/environments/dev/machines/${machine.id}:echo`, {});
  expect(echo.status).toBe(200);
});

test('runs reach their machine as well where the public port speaks TLS', async () => {
  using certificate = makeCertificate();
  const { certFile, keyFile } = certificate;
  const tls = { tlsCert: certFile, tlsKey: keyFile };
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN, ...tls });
  const ca = readFileSync(certFile, 'utf8');
  const admin = await withEnvironment(new RestCaller(relay.httpUrl, TOKEN, ca));
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  await over(admin, await startRun(admin, await connectionTo(admin, machine.id)));
});

test('an offer that is longer than a control channel takes comes whole', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const connectionId = await connectionTo(admin, machine.id);
  const inputs = { text: 'x'.repeat(1_500_000) };
  const runId = await startRun(admin, connectionId, { inputs });
  await over(admin, runId);
  expect(machine.offers[0]?.inputs).toEqual(inputs);
});

test('a machine that is deleted loses its listener, its tokens and its place', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const offline = new Promise<string>(resolve => {
    machine.listener.on('offline', why => resolve(why.message));
  });
  const failed = new Promise<string | undefined>(resolve => {
    machine.listener.on('reconnecting', ({ why }) => resolve(why.reason ?? why.message));
  });
  const path = `/environments/dev/machines/${machine.id}`;
  const { version } = await admin.get('GET', path);
  const removed = await admin.call('DELETE', path, undefined, {
    'if-match': `"${String(version)}"`,
  });
  expect(removed.status).toBe(204);
  expect(await offline).toContain('1001 The hybrid connection was deleted');
  expect(await failed).toBeDefined();
  expect(await relay.metric('halfway_active_listeners{hybrid_connection="dev/m/*"}')).toBe(0);
  await expect(machine.tokens(relay.httpUrl)).rejects.toThrow('404');
});

test('what may open a way to machines is in no log', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  await over(admin, await startRun(admin, await connectionTo(admin, machine.id)));
  const log = relay.log.lines.join('\n');
  expect(log).toContain('listener registered');
  expect(log).not.toMatch(/hwt_|hwm_|SharedAccessSignature|sig=/);
});

test('a drain answers requests that are held, so that who waits goes on elsewhere', async () => {
  const { relay, admin } = await dispatching();
  await using _ = relay;
  await using machine = await RelayMachine.register(admin);
  const runId = await startRun(admin, await connectionTo(admin, machine.id));
  const path = `/environments/dev/runs/${runId}/events`;
  const { next } = await admin.get('GET', path);
  const held = admin.call('GET', `${path}?after=${Number(next)}&wait=25`);
  await until('it is held', async () => (await relay.metric('halfway_dispatch_api_waiters')) === 1);
  await relay.server.drain();
  expect(await held).toMatchObject({ status: 200, body: { items: [], isOver: false } });
});
