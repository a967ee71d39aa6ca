import { createPublicKey } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDetached } from '../../src/crypto/es256.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { Dispatcher } from '../../src/dispatch/dispatcher.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import type { MachineRequest, MachineResponse } from '../../src/dispatch/machine-sender.ts';
import { CONNECTION, MACHINE } from '../../src/dispatch/records.ts';
import { readEvents } from '../../src/dispatch/run-events.ts';
import { Draft } from '../../src/dispatch/repository.ts';
import { ASSIGNED_LEASE_MS } from '../../src/jobs/limits.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import {
  accepted,
  FakeSender,
  NOBODY,
  offerIn,
  refused,
  settled,
} from '../support/fake-machines.ts';
import { silentLogger } from '../support/silent-logger.ts';

let bench: DispatchBench;
let sender: FakeSender;
let keys: DispatchKeys;
let dispatcher: Dispatcher;

beforeEach(async () => {
  bench = dispatchBench();
  sender = new FakeSender();
  keys = new DispatchKeys(bench.store, bench.clock);
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
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

afterEach(async () => {
  await dispatcher.stop();
  // Whatever it waits for is given up.
  expect(bench.clock.pendingTasks).toBe(0);
});

async function present(...ids: string[]): Promise<void> {
  for (const id of ids) await bench.setPresence(id);
  await settled();
}

/** Lets time pass in which machines go on saying that they are there. */
async function pass(ms: number, ...ids: string[]): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    bench.clock.advance(Math.min(left, 1_000));
    for (const id of ids) await bench.signal(id);
    await settled(2);
  }
}

async function groupOf(...ids: string[]): Promise<void> {
  const key = { publicKey: { kid: 'k1', suite: 'p256', point: '' } } as const;
  await bench.addGroup('g1', {
    key: {
      ...key,
      package: {
        v: 1,
        groupId: 'g1',
        kid: 'k'.repeat(43),
        generation: 1,
        suite: 'p256',
        kdf: { name: 'scrypt', N: 2 ** 17, r: 8, p: 1, salt: 's'.repeat(22) },
        nonce: 'n'.repeat(16),
        wrapped: 'w'.repeat(64),
      },
      createdAtMs: 0,
      passwordChangedAtMs: 0,
      passwordChangedBy: 'user:ann',
    },
  });
  for (const id of ids) await bench.addMachine(id, { group: { id: 'g1', provedKid: 'k1' } });
  await bench.addConnection('cg', { kind: 'group', id: 'g1' });
}

const state = (id: string) => bench.state(id);

describe('a run for one machine', () => {
  test('is offered at once, signed for this machine, with what it needs', async () => {
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit({ inputs: { a: 1 } });
    await settled();
    await expect(state(id)).resolves.toBe('Assigned');
    const [request] = sender.requests;
    if (request === undefined) throw new Error('nothing was sent');
    expect(request).toMatchObject({ environment: 'dev', machineId: 'm1', path: `runs/${id}` });
    expect(offerIn(request)).toMatchObject({
      runId: id,
      attempt: 1,
      fence: 1,
      inputs: { a: 1 },
      connection: { id: 'c1', version: 1, targetKind: 'machine', targetId: 'm1' },
      credential: { ct: 'c'.repeat(64) },
    });
    const [jwk] = await keys.published();
    const publicKey = createPublicKey({ key: { ...jwk }, format: 'jwk' });
    const fields = openDetached(request.signature, request.body, kid =>
      kid === jwk?.kid ? publicKey : undefined,
    );
    expect(fields).toMatchObject({ aud: 'dev/m/m1' });
    expect(openDetached(request.signature, `${request.body} `, () => publicKey)).toBeUndefined();
  });

  test('waits for a machine that is not there, and goes when it comes', async () => {
    await dispatcher.start();
    const id = await bench.submit();
    await settled();
    expect(sender.requests).toEqual([]);
    await present('m1');
    await expect(state(id)).resolves.toBe('Assigned');
  });

  test('is not offered to a machine that was silent for 75 s', async () => {
    await dispatcher.start();
    await present('m1');
    bench.clock.advance(75_001);
    await settled();
    const id = await bench.submit();
    await settled();
    expect(sender.requests).toEqual([]);
    await expect(state(id)).resolves.toBe('Queued');
  });

  test('fails at once when nobody is there and the caller said so', async () => {
    await dispatcher.start();
    const id = await bench.submit({ whenOffline: 'fail' });
    await settled();
    const { value } = await bench.changes.get(id);
    expect(value).toMatchObject({ state: 'Failed', fault: { code: 'NoListenerConnected' } });
  });

  test('waits for the slot, and the next goes when it is free', async () => {
    await dispatcher.start();
    await present('m1');
    const first = await bench.submit();
    const second = await bench.submit();
    await settled();
    await expect(state(second)).resolves.toBe('Queued');
    const about = { runId: first, attempt: 1, fence: 1 };
    await bench.reports.start('m1', { ...about, instance: 'i1' });
    await bench.reports.result('m1', { v: 1, type: 'result', ...about, status: 'Succeeded' });
    await settled();
    await expect(state(first)).resolves.toBe('Succeeded');
    await expect(state(second)).resolves.toBe('Assigned');
  });

  test('that is attended takes no slot of those that are not', async () => {
    await dispatcher.start();
    await present('m1');
    const first = await bench.submit();
    const second = await bench.submit({ mode: 'attended' });
    await settled();
    await expect(state(first)).resolves.toBe('Assigned');
    await expect(state(second)).resolves.toBe('Assigned');
  });

  test('that is refused for now is offered again, later each time', async () => {
    sender.answer = request => refused(request, 'UIFlowAlreadyRunning');
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit();
    await settled();
    expect(sender.requests).toHaveLength(1);
    await pass(4_000, 'm1');
    expect(sender.requests).toHaveLength(1);
    await pass(2_000, 'm1');
    expect(sender.requests).toHaveLength(2);
    await pass(8_000, 'm1');
    expect(sender.requests).toHaveLength(2);
    sender.answer = accepted;
    await pass(4_000, 'm1');
    expect(sender.requests.map(request => offerIn(request).fence)).toEqual([1, 2, 3]);
    await expect(state(id)).resolves.toBe('Assigned');
    const events = await readEvents(bench.repository, id, { after: 0, limit: 20 });
    expect(events.map(({ entry }) => entry.type)).toEqual([
      'queued',
      'machineSelected',
      'machineReturnedError',
      'machineSelected',
      'machineReturnedError',
      'machineSelected',
      'preChecks',
    ]);
  });

  test('that was refused is offered again at once when the machine has changed', async () => {
    sender.answer = request => refused(request, 'AttendedUserSessionNotActive');
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit({ mode: 'attended' });
    await settled();
    sender.answer = accepted;
    bench.clock.advance(10);
    await bench.setPresence('m1', { gainedAtMs: bench.clock.wallMs() });
    await settled();
    await expect(state(id)).resolves.toBe('Assigned');
    expect(sender.requests).toHaveLength(2);
  });

  test('that is refused for good fails, and a wrong password suspends its connection', async () => {
    sender.answer = request => refused(request, 'SessionCreationInvalidCredentials');
    await dispatcher.start();
    await present('m1');
    const first = await bench.submit();
    const second = await bench.submit();
    await settled(8);
    await expect(state(first)).resolves.toBe('Failed');
    await expect(state(second)).resolves.toBe('Failed');
    // The second was never tried.
    expect(sender.requests).toHaveLength(1);
    const connection = await bench.repository.get(CONNECTION, 'c1');
    expect(connection?.value.suspended).toMatchObject({
      code: 'SessionCreationInvalidCredentials',
    });
  });

  test.each<[string, (request: MachineRequest) => MachineResponse]>([
    ['nobody answers', () => NOBODY],
    ['the answer cannot be read', () => ({ type: 'answer', status: 200, body: 'hello' })],
    [
      'the answer is for another attempt',
      request => accepted({ ...request, body: otherFence(request) }),
    ],
  ])('goes back to its queue when %s', async (_what, answer) => {
    sender.answer = answer;
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit();
    await settled();
    await expect(state(id)).resolves.toBe('Queued');
    await expect(bench.repository.count('slots:m1')).resolves.toBe(0);
  });

  test('goes back to its queue when the machine accepts and never asks for the start', async () => {
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit();
    await settled();
    await pass(ASSIGNED_LEASE_MS + 2_000, 'm1');
    const { value } = await bench.changes.get(id);
    expect(value).toMatchObject({ state: 'Queued', fence: 1 });
    await pass(8_000, 'm1');
    await expect(bench.changes.get(id)).resolves.toMatchObject({ value: { fence: 2 } });
  });

  test('fails with the last answer and a table of machines when its queue time is over', async () => {
    sender.answer = request => refused(request, 'TooManyActiveSessions', { message: 'full' });
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit({ queueTimeoutSeconds: 60 });
    await settled();
    await pass(64_000, 'm1');
    const { value } = await bench.changes.get(id);
    expect(value).toMatchObject({
      state: 'Failed',
      fault: { code: 'NoCandidateMachine', subCode: 'TooManyActiveSessions' },
      answers: { m1: { code: 'TooManyActiveSessions' } },
    });
  });

  test('that never found anybody says why, machine by machine', async () => {
    await dispatcher.start();
    const id = await bench.submit({ queueTimeoutSeconds: 60, labels: { gpu: 'yes' } });
    await present('m1');
    await pass(64_000, 'm1');
    await expect(bench.changes.get(id)).resolves.toMatchObject({
      value: { state: 'Failed', answers: { m1: { code: 'NoCandidateMachine' } } },
    });
  });

  test('is told to end when its time is over, and ends as timed out', async () => {
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit({ timeoutSeconds: 30 });
    await settled();
    const about = { runId: id, attempt: 1, fence: 1 };
    await bench.reports.start('m1', { ...about, instance: 'i1' });
    await pass(34_000, 'm1');
    await expect(state(id)).resolves.toBe('Cancelling');
    expect(sender.requests.map(({ path }) => path)).toContain(`commands/${id}-1-stop`);
    const renewed = await bench.reports.renew('m1', { ...about, isLaunched: true });
    expect(renewed.cancel).toMatchObject({ mode: 'stop' });
    await bench.reports.result('m1', { v: 1, type: 'result', ...about, status: 'Cancelled' });
    await expect(state(id)).resolves.toBe('TimedOut');
  });

  test('is lost when its machine says nothing for lease and grace', async () => {
    await dispatcher.start();
    await present('m1');
    const id = await bench.submit();
    await settled();
    await bench.reports.start('m1', { runId: id, attempt: 1, fence: 1, instance: 'i1' });
    await pass(170_000);
    await expect(state(id)).resolves.toBe('Starting');
    await pass(14_000);
    await expect(state(id)).resolves.toBe('Lost');
    await expect(bench.repository.count('slots:m1')).resolves.toBe(0);
  });

  test('fails when its connection is gone before it is placed', async () => {
    await dispatcher.start();
    const id = await bench.submit();
    await bench.repository.change(async () => {
      const connection = await bench.repository.get(CONNECTION, 'c1');
      const draft = new Draft();
      if (connection !== undefined) draft.remove(CONNECTION, connection);
      return { draft, answer: undefined };
    });
    await present('m1');
    await expect(bench.changes.get(id)).resolves.toMatchObject({
      value: { state: 'Failed', fault: { code: 'ConnectionDeleted' } },
    });
  });

  test('is not offered in maintenance, and goes when that ends', async () => {
    await dispatcher.start();
    await present('m1');
    const set = (isInMaintenance: boolean) =>
      bench.repository.change(async () => {
        const machine = await bench.repository.get(MACHINE, 'm1');
        const draft = new Draft().add('wake:m1', 'at', bench.clock.wallMs());
        if (machine !== undefined) {
          draft.replace(MACHINE, machine, { ...machine.value, isInMaintenance });
        }
        return { draft, answer: undefined };
      });
    await set(true);
    const id = await bench.submit();
    await settled();
    await expect(state(id)).resolves.toBe('Queued');
    await set(false);
    await settled();
    await expect(state(id)).resolves.toBe('Assigned');
  });
});

describe('runs for a group', () => {
  beforeEach(async () => {
    await groupOf('a', 'b', 'c');
    await dispatcher.start();
  });

  test('go to all members, one each', async () => {
    await present('a', 'b', 'c');
    for (let count = 0; count < 4; count += 1) await bench.submit({ connectionId: 'cg' });
    await settled(8);
    expect(sender.offeredTo().toSorted()).toEqual(['a', 'b', 'c']);
    await expect(bench.repository.count('q:group:g1')).resolves.toBe(1);
  });

  test('are offered to one member after the other, then wait', async () => {
    sender.answer = request => refused(request, 'UIFlowAlreadyRunning');
    await present('a', 'b', 'c');
    const id = await bench.submit({ connectionId: 'cg' });
    await settled(12);
    expect(sender.offeredTo(id).toSorted()).toEqual(['a', 'b', 'c']);
    await expect(state(id)).resolves.toBe('Queued');
  });

  test('go to who has been idle longest', async () => {
    await bench.repository.change(async () => {
      const draft = new Draft().add('idle', 'a', 300).add('idle', 'b', 100).add('idle', 'c', 200);
      return Promise.resolve({ draft, answer: undefined });
    });
    await present('a', 'b', 'c');
    for (let count = 0; count < 3; count += 1) {
      await bench.submit({ connectionId: 'cg' });
      await settled();
    }
    expect(sender.offeredTo()).toEqual(['b', 'c', 'a']);
  });

  test('are tried once more elsewhere when a session could not be made, then fail', async () => {
    sender.answer = request => refused(request, 'SessionCreationError');
    await present('a', 'b', 'c');
    const id = await bench.submit({ connectionId: 'cg' });
    await settled(12);
    expect(sender.offeredTo(id)).toHaveLength(2);
    await expect(state(id)).resolves.toBe('Failed');
  });

  test('never go to a member that has not proved the key', async () => {
    await bench.addMachine('d', { group: { id: 'g1', provedKid: 'old' } });
    await present('d');
    const id = await bench.submit({ connectionId: 'cg' });
    await settled();
    expect(sender.requests).toEqual([]);
    await expect(state(id)).resolves.toBe('Queued');
  });
});

test('a cancel is pushed to the machine', async () => {
  await dispatcher.start();
  await present('m1');
  const id = await bench.submit();
  await settled();
  await bench.reports.start('m1', { runId: id, attempt: 1, fence: 1, instance: 'i1' });
  const run = await bench.control.cancel(ANN, id, 'kill');
  dispatcher.pushCancel('dev', run.value);
  await settled();
  expect(sender.requests.at(-1)).toMatchObject({ path: `commands/${id}-1-kill` });
});

test('a new dispatcher takes up what waits', async () => {
  await present('m1');
  const id = await bench.submit();
  await dispatcher.start();
  await settled();
  await expect(state(id)).resolves.toBe('Assigned');
});

function otherFence(request: MachineRequest): string {
  return JSON.stringify({ ...offerIn(request), fence: 9 });
}
