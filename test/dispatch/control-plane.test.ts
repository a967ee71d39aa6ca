import { expect, test } from 'vitest';
import { newTokenText } from '../../src/dispatch/api-tokens.ts';
import type { CallbackSender } from '../../src/dispatch/callback-sender.ts';
import { ControlPlane, type ControlPlaneParts } from '../../src/dispatch/control-plane.ts';

import { signWebhook } from '../../src/dispatch/webhook-signature.ts';
import { FakeSender, offerIn, settled } from '../support/fake-machines.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MachineKeys } from '../support/machine-keys.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';

function newPlane(clock: FakeClock, more: Partial<ControlPlaneParts> = {}): ControlPlane {
  return new ControlPlane({
    store: openMemoryDispatchStore(),
    clock,
    log: silentLogger,
    random: () => 0.5,
    sender: new FakeSender(),
    endpoints: { create: () => Promise.resolve(), delete: () => Promise.resolve() },
    relayTokens: { mint: (path, right) => Promise.resolve(`${right} ${path}`) },
    ...more,
  });
}

test('a run goes the whole way: registered, connected, submitted, offered, started, ended', async () => {
  const clock = new FakeClock(1_700_000_000_000);
  const sender = new FakeSender();
  const bootstrapToken = newTokenText();
  const plane = newPlane(clock, { sender, bootstrapToken });
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

test('what is to be done by itself is done: schedules, callbacks, old runs, the key that signs', async () => {
  const clock = new FakeClock(1_700_000_000_000);
  const bootstrapToken = newTokenText();
  const told: string[] = [];
  const send: CallbackSender['send'] = ({ body }) => {
    told.push(body);
    return Promise.resolve({ type: 'answer', status: 200 });
  };
  const plane = newPlane(clock, { bootstrapToken, callbackSender: { send } });
  const admin = await plane.tokens.authenticate(bootstrapToken);
  await plane.environments.create(admin, { id: 'dev' });
  await plane.dispatcher.start();
  const { environment, caller } = await plane.environments.enter(admin, 'dev');
  const { registration, connections, schedules, runs, control } = plane.in('dev');
  const body = new MachineKeys().registration();
  const { machine } = await registration.register(environment.value, caller, body);
  const target = { kind: 'machine', id: machine.id };
  await connections.create(caller, { id: 'c1', name: 'bot', target, kind: 'none' });
  const job = { ref: 'hello', kind: 'command', command: ['true'] };
  const run = { connectionId: 'c1', job, mode: 'attended', callbackUrl: 'https://example.com/' };
  await schedules.create(caller, { name: 'hourly', everySeconds: 3_600, run });
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await settled(8);
  };
  await pass(2_000);
  await pass(3_600_000);
  await pass(2_000);
  const { items } = await runs.list(caller, {});
  expect(items.map(({ value }) => value.trigger)).toEqual(['schedule']);
  await control.cancel(caller, items[0]?.id ?? '', 'stop');
  await settled(8);
  expect(told.map(text => JSON.parse(text))).toMatchObject([{ data: { state: 'Cancelled' } }]);
  await expect(plane.keys.published()).resolves.toHaveLength(1);
  await pass(90 * 24 * 3_600_000);
  for (let count = 0; count < 10; count += 1) await pass(2_000);
  await expect(plane.keys.published()).resolves.toHaveLength(2);
  await expect(runs.get(caller, items[0]?.id ?? '')).rejects.toMatchObject({ code: 'NotFound' });
  await plane.dispatcher.stop();
  expect(clock.pendingTasks).toBe(0);
});

test('receive() makes nothing of names that strangers choose', async () => {
  const clock = new FakeClock(1_700_000_000_000);
  const bootstrapToken = newTokenText();
  const plane = newPlane(clock, { bootstrapToken });
  const admin = await plane.tokens.authenticate(bootstrapToken);
  await plane.environments.create(admin, { id: 'dev' });
  const about = { id: 'msg_1', timestamp: String(clock.wallMs() / 1_000) };
  const headers = { ...about, signature: signWebhook('c2VjcmV0', about, '{}') };
  const delivery = { headers, body: Buffer.from('{}') };
  for (const [environment, trigger] of [
    ['none', 'x'],
    ['~', 'x'],
    ['../dev', 'x'],
    ['dev', 'none'],
    ['dev', 'a b'],
    ['dev', 'x'.repeat(1_000)],
  ] as const) {
    await expect(plane.receive(environment, trigger, delivery)).rejects.toMatchObject({
      code: 'TokenInvalid',
    });
  }
});
