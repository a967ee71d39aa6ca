import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConnectionTests } from '../../src/dispatch/connection-tests.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { Dispatcher } from '../../src/dispatch/dispatcher.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import type { Result } from '../../src/jobs/messages.ts';
import { ANN, dispatchBench, ENVIRONMENT_DEV, type DispatchBench } from '../support/dispatch.ts';
import { FakeSender, offerIn, settled } from '../support/fake-machines.ts';
import { silentLogger } from '../support/silent-logger.ts';

let bench: DispatchBench;
let sender: FakeSender;
let dispatcher: Dispatcher;
let tests: ConnectionTests;

beforeEach(async () => {
  bench = dispatchBench();
  sender = new FakeSender();
  const keys = new DispatchKeys(bench.store, bench.clock);
  const environments = new Environments(bench.store, bench.clock);
  await environments.create({ name: 'token:bootstrap', isAdmin: true }, { id: 'dev' });
  await keys.sign('', '');
  dispatcher = new Dispatcher({
    store: bench.store,
    environments,
    sender,
    keys,
    clock: bench.clock,
    random: () => 0.5,
    log: silentLogger,
  });
  tests = new ConnectionTests(bench.repository, bench.runs);
  await bench.addGroup('g1');
  const group = { id: 'g1', provedKid: 'k' };
  for (const id of ['m1', 'm2', 'm3']) await bench.addMachine(id, { group });
  await bench.addConnection('cg', { kind: 'group', id: 'g1' });
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
  await bench.haveGroupKey('g1', 'k');
  await dispatcher.start();
});
afterEach(async () => {
  await dispatcher.stop();
  expect(bench.clock.pendingTasks).toBe(0);
});

function start(body: object, connectionId = 'cg', key?: string) {
  return tests.test(ANN, ENVIRONMENT_DEV, connectionId, { body, key });
}

async function present(...ids: readonly string[]): Promise<void> {
  for (const id of ids) await bench.setPresence(id);
  await settled();
}

/** Plays the machine that was asked last: it starts the run and ends it. */
async function finish(error?: NonNullable<Result['error']>): Promise<void> {
  const request = sender.requests.findLast(({ path }) => path.startsWith('runs/'));
  if (request === undefined) throw new Error('nothing was offered');
  const { runId, attempt, fence } = offerIn(request);
  const about = { runId, attempt, fence };
  await bench.reports.start(request.machineId, { ...about, instance: 'i1' });
  const status = error === undefined ? 'Succeeded' : 'Failed';
  await bench.reports.result(request.machineId, { v: 1, type: 'result', ...about, status, error });
  await settled();
}

describe('test()', () => {
  test('is a run of kind probe on the machine of the connection', async () => {
    await present('m1');
    const [one, ...more] = await start({}, 'c1');
    expect(more).toEqual([]);
    expect(one?.run.value).toMatchObject({ jobKind: 'probe', trigger: 'test', mode: 'unattended' });
    await settled();
    expect(sender.offeredTo(one?.run.id)).toEqual(['m1']);
  });

  test('goes to the member that was named, and fails at once where that one is away', async () => {
    await present('m1', 'm2');
    const [there] = await start({ machineId: 'm2' });
    await settled();
    expect(sender.offeredTo(there?.run.id)).toEqual(['m2']);
    const [away] = await start({ machineId: 'm3' });
    await settled();
    const { value } = await bench.changes.get(away?.run.id ?? '');
    expect(value).toMatchObject({ state: 'Failed', fault: { code: 'NoListenerConnected' } });
  });

  test('on every member goes from one to the next', async () => {
    await present('m1', 'm2', 'm3');
    const submitted = await start({ everyMember: true });
    expect(submitted.map(({ run }) => run.value.onlyMachineId)).toEqual(['m1', 'm2', 'm3']);
    await settled();
    for (let asked = 1; asked <= 3; asked += 1) {
      expect(sender.offeredTo()).toHaveLength(asked);
      await finish();
    }
    expect(sender.offeredTo().toSorted()).toEqual(['m1', 'm2', 'm3']);
    const states = await Promise.all(submitted.map(({ run }) => bench.state(run.id)));
    expect(states).toEqual(['Succeeded', 'Succeeded', 'Succeeded']);
  });

  test('tries a wrong password once, not on every member', async () => {
    await present('m1', 'm2', 'm3');
    const submitted = await start({ everyMember: true });
    await settled();
    await finish({ code: 'WindowsIdentityIncorrect', message: 'wrong password' });
    expect(sender.offeredTo()).toHaveLength(1);
    const runs = await Promise.all(submitted.map(({ run }) => bench.changes.get(run.id)));
    expect(runs.map(({ value }) => value.state)).toEqual(['Failed', 'Failed', 'Failed']);
  });

  test('holds up nobody who waits in the same queue', async () => {
    await present('m1', 'm2');
    await start({ everyMember: true });
    await settled();
    // One of the tests waits for the other.
    const run = await bench.submit({ connectionId: 'cg' });
    await settled();
    expect(sender.offeredTo(run)).toHaveLength(1);
  });

  test('is made once for an Idempotency-Key', async () => {
    await present('m1', 'm2', 'm3');
    const [first, again] = [
      await start({ everyMember: true }, 'cg', 'key'),
      await start({ everyMember: true }, 'cg', 'key'),
    ];
    expect(again.map(({ run }) => run.id)).toEqual(first.map(({ run }) => run.id));
    expect(again.every(({ isRepeated }) => isRepeated)).toBe(true);
  });

  test('refuses who is no member, both wishes at once, and who may not use the connection', async () => {
    await expect(start({ machineId: 'm9' })).rejects.toMatchObject({ code: 'MachineNotFound' });
    await expect(start({ machineId: 'm2' }, 'c1')).rejects.toMatchObject({
      code: 'MachineNotFound',
    });
    await expect(start({ machineId: 'm1', everyMember: true })).rejects.toMatchObject({
      code: 'RequestMalformed',
    });
    await expect(start({ other: 1 })).rejects.toMatchObject({ code: 'RequestMalformed' });
    await expect(start({}, 'none')).rejects.toMatchObject({ code: 'ConnectionNotFound' });
    const bob = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
    await expect(tests.test(bob, ENVIRONMENT_DEV, 'cg', { body: {} })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
  });
});
