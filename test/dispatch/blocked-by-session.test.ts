import { beforeEach, expect, test } from 'vitest';
import { CALLBACK } from '../../src/dispatch/callbacks.ts';
import { DispatchKeys } from '../../src/dispatch/dispatch-key.ts';
import { Offers } from '../../src/dispatch/offers.ts';
import { readEvents } from '../../src/dispatch/run-events.ts';
import type { JobErrorCode } from '../../src/jobs/error-codes.ts';
import { ANN, dispatchBench, ENVIRONMENT_DEV, type DispatchBench } from '../support/dispatch.ts';
import { FakeSender, offerIn, refused } from '../support/fake-machines.ts';

let bench: DispatchBench;
let sender: FakeSender;
let offers: Offers;

beforeEach(async () => {
  bench = dispatchBench();
  sender = new FakeSender();
  const { repository, changes, clock } = bench;
  const keys = new DispatchKeys(bench.store, clock);
  offers = new Offers({ repository, changes, sender, keys, clock });
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

async function offerAndRefuse(id: string, code: JobErrorCode): Promise<void> {
  sender.answer = request => refused(request, code, { message: 'look' });
  const { run } = await bench.changes.advance(id, { type: 'picked', machineId: 'm1' });
  await offers.make(run.value);
}

async function notices(id: string): Promise<number> {
  const events = await readEvents(bench.repository, id, { after: 0, limit: 100 });
  return events.filter(({ entry }) => entry.type === 'blockedBySession').length;
}

test('a run that waits for a session says so once, to people and to its caller', async () => {
  const id = await bench.submit({ callbackUrl: 'https://example.com/' });
  await offerAndRefuse(id, 'UIFlowAlreadyRunning');
  await expect(notices(id)).resolves.toBe(0);
  await offerAndRefuse(id, 'UnattendedUserSessionLocked');
  await offerAndRefuse(id, 'UIFlowAlreadyRunning');
  await offerAndRefuse(id, 'UnattendedUserSessionLocked');
  await expect(notices(id)).resolves.toBe(1);
  const told = await bench.repository.get(CALLBACK, `${id}.runBlockedBySession`);
  expect(JSON.parse(told?.value.body ?? '')).toMatchObject({
    type: 'runBlockedBySession',
    data: { runId: id, state: 'Queued', code: 'UnattendedUserSessionLocked', message: 'look' },
  });
});

test.each([
  ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', true],
  ['00-00000000000000000000000000000000-00f067aa0ba902b7-01', false],
  ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y', false],
  ['x', false],
])('an offer hands on the trace %j of its request: %s', async (traceparent, isKept) => {
  const body = { connectionId: 'c1', job: { ref: 'job', kind: 'command', command: ['true'] } };
  const submission = { body, trigger: 'api', traceparent };
  const { run } = await bench.runs.submit(ANN, ENVIRONMENT_DEV, submission);
  const picked = await bench.changes.advance(run.id, { type: 'picked', machineId: 'm1' });
  await offers.make(picked.run.value);
  const [request] = sender.requests;
  const trace = request === undefined ? undefined : offerIn(request).trace;
  expect(trace).toEqual(isKept ? { traceparent } : undefined);
});
