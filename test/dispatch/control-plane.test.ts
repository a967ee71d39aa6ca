import { expect, test } from 'vitest';
import { newTokenText } from '../../src/dispatch/api-tokens.ts';
import { ControlPlane } from '../../src/dispatch/control-plane.ts';

import { FakeSender, offerIn, settled } from '../support/fake-machines.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MachineKeys } from '../support/machine-keys.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';

test('a run goes the whole way: registered, connected, submitted, offered, started, ended', async () => {
  const clock = new FakeClock(1_700_000_000_000);
  const sender = new FakeSender();
  const bootstrapToken = newTokenText();
  const plane = new ControlPlane({
    store: openMemoryDispatchStore(),
    clock,
    log: silentLogger,
    random: () => 0.5,
    sender,
    endpoints: { create: () => Promise.resolve(), delete: () => Promise.resolve() },
    relayTokens: { mint: (path, right) => Promise.resolve(`${right} ${path}`) },
    bootstrapToken,
  });
  await plane.keys.published();
  await plane.dispatcher.start();
  const admin = await plane.tokens.authenticate(bootstrapToken);
  await plane.environments.create(admin, { id: 'dev' });
  const { environment, caller } = await plane.environments.enter(admin, 'dev');
  const services = plane.in('dev');

  const keys = new MachineKeys();
  const body = keys.registration();
  const { machine } = await services.registration.register(environment.value, caller, body);
  const { accessToken } = await plane.machineTokens.exchange(
    'dev',
    machine.id,
    keys.assertion(machine.id, clock.wallMs()),
  );
  const { machineId } = await plane.machineTokens.authenticate(accessToken);
  await services.presence.hello(machineId, {
    v: 1,
    type: 'hello',
    machineId,
    installId: 'install-1',
    instance: 'i1',
    agentVersion: '1.0.0',
    os: 'linux',
    capacity: { unattended: 1, attended: 1 },
    sessions: [],
    labels: {},
    keys: [],
    clock: '2023-11-14T22:13:20Z',
    journal: [],
  });
  const { kid } = machine.value.encryptionKey;
  const envelope = { v: 1, suite: 'p256', kid, enc: 'e'.repeat(87), ct: 'c'.repeat(64) };
  const target = { kind: 'machine', id: machine.id };
  await services.connections.create(caller, { id: 'c1', name: 'bot', target, envelope });
  const job = { ref: 'hello', kind: 'command', command: ['true'] };
  const { run } = await services.runs.submit(caller, environment.value, {
    body: { connectionId: 'c1', job },
    trigger: 'api',
  });
  await settled();
  const [request] = sender.requests;
  if (request === undefined) throw new Error('nothing was offered');
  const { attempt, fence } = offerIn(request);
  const about = { runId: run.id, attempt, fence };
  await services.reports.start(machineId, { ...about, instance: 'i1' });
  await services.control.cancel(caller, run.id, 'stop');
  await settled();
  expect(sender.requests.at(-1)?.path).toBe(`commands/${run.id}-1-stop`);
  await services.reports.result(machineId, { v: 1, type: 'result', ...about, status: 'Cancelled' });
  await expect(services.runs.get(caller, run.id)).resolves.toMatchObject({
    value: { state: 'Cancelled' },
  });
  await plane.dispatcher.stop();
  expect(clock.pendingTasks).toBe(0);
});
