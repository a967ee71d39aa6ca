import { expect, test, vi } from 'vitest';
import { API_TOKEN, dispatchProcess } from '../support/dispatch-process.ts';
import {
  connectionTo,
  RelayMachine,
  RestCaller,
  startRun,
  stateOf,
  type Work,
} from '../support/relay-machine.ts';
import { until } from '../support/within.ts';

/** A listener's pauses grow while its server starts, which takes long on a machine that does other things. */
const PATIENCE_MS = 60_000;

vi.setConfig({ testTimeout: 3 * PATIENCE_MS });

async function untilState(admin: RestCaller, runId: string, state: string): Promise<void> {
  const isSo = async (): Promise<boolean> => (await stateOf(admin, runId)) === state;
  await until(`the run is ${state}`, isSo, PATIENCE_MS);
}

/** Begins runs and leaves them so. */
const onlyStart: Work = (machine, offer) => machine.start(offer);

test('halfway dev prints a token, with which a run is started and watched', async () => {
  await using server = await dispatchProcess({ command: 'dev', apiToken: null });
  await server.start();
  await until('the notice', () => server.output().includes('/$portal/'));
  const [token = ''] = /hwt_[\w-]{43}/.exec(server.output()) ?? [];
  const admin = new RestCaller(server.origin, token);
  expect(await admin.call('GET', '/me')).toMatchObject({ status: 200, body: { isAdmin: true } });
  expect((await admin.call('GET', '/environments/default')).status).toBe(200);
  await admin.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(admin);
  await machine.connect();
  const runId = await startRun(admin, await connectionTo(admin, machine.id));
  await untilState(admin, runId, 'Succeeded');
});

test('a run that is under way outlives the server, killed at once, and so does one that waits', async () => {
  await using server = await dispatchProcess({ command: 'serve' });
  await server.start();
  const { admin } = server;
  await admin.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(admin);
  machine.work = onlyStart;
  await machine.connect();
  const connectionId = await connectionTo(admin, machine.id);
  const started = await startRun(admin, connectionId);
  await untilState(admin, started, 'Starting');
  // Attended runs go one after the other: this one waits.
  const waiting = await startRun(admin, connectionId);
  await server.kill();
  await server.start();
  await until('the machine is back', () => machine.listener.state === 'online', PATIENCE_MS);
  machine.work = (one, offer) => one.run(offer);
  const [offer] = machine.offers;
  if (offer === undefined) throw new Error('The run was offered');
  await machine.succeed(offer);
  await untilState(admin, started, 'Succeeded');
  await untilState(admin, waiting, 'Succeeded');
  expect(machine.offers.map(({ runId }) => runId)).toEqual([started, waiting]);
});

test('a server that is ended and started again goes on with all it had', async () => {
  await using server = await dispatchProcess({ command: 'serve' });
  await server.start();
  const { admin } = server;
  await admin.get('POST', '/environments', { id: 'dev' });
  await using machine = await RelayMachine.register(admin);
  const runId = await startRun(admin, await connectionTo(admin, machine.id));
  expect(await server.drain()).toBe(0);
  await server.start();
  expect(await stateOf(admin, runId)).toBe('Queued');
  await machine.connect();
  await untilState(admin, runId, 'Succeeded');
  expect(server.output()).not.toContain(API_TOKEN);
});

test('serve says how to make a first API token when there is none', async () => {
  await using server = await dispatchProcess({ command: 'serve', apiToken: null });
  await server.start();
  expect(server.output()).toMatch(/there is no API token/);
  expect(server.output()).toMatch(/openssl rand -base64 32.*HALFWAY_API_TOKEN_FILE/);
});
