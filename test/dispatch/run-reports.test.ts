import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { beforeEach, describe, expect, test } from 'vitest';
import { CONNECTION } from '../../src/dispatch/records.ts';
import { readEvents } from '../../src/dispatch/run-events.ts';
import { RunLogs } from '../../src/dispatch/run-logs.ts';
import { indexesOf } from '../../src/dispatch/run-indexes.ts';
import { resultSchema, type Result } from '../../src/jobs/messages.ts';
import { LOST_GRACE_MS, STARTED_LEASE_MS } from '../../src/jobs/limits.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';

let bench: DispatchBench;
let runId: string;
beforeEach(async () => {
  bench = dispatchBench();
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
  runId = await bench.submit();
  await bench.changes.advance(runId, { type: 'picked', machineId: 'm1' });
});

const about = (change: object = {}) => ({ runId, attempt: 1, fence: 1, ...change });
const start = (change: object = {}) => ({ ...about(), instance: 'i1', ...change });
const result = (change: object = {}): Result =>
  v.parse(resultSchema, { v: 1, type: 'result', ...about(), status: 'Succeeded', ...change });

describe('start()', () => {
  test('is granted once, again to the same process, to nobody else', async () => {
    const { reports } = bench;
    const granted = await reports.start('m1', start());
    expect(granted).toMatchObject({ type: 'renewed', cancel: null });
    await expect(reports.start('m1', start())).resolves.toEqual(granted);
    for (const [machine, change] of [
      ['m1', { instance: 'i2' }],
      ['m2', {}],
      ['m1', { fence: 2 }],
      ['m1', { attempt: 2 }],
    ] as const) {
      await expect(reports.start(machine, start(change))).rejects.toMatchObject({
        code: 'LeaseLost',
      });
    }
  });

  test('is not granted any more when the run was cancelled', async () => {
    await bench.control.cancel(ANN, runId, 'stop');
    await expect(bench.reports.start('m1', start())).rejects.toMatchObject({ code: 'LeaseLost' });
  });
});

test('renew() extends the lease, says that it runs, and carries the cancel', async () => {
  await bench.reports.start('m1', start());
  bench.clock.advance(30_000);
  await bench.reports.renew('m1', { ...about(), isLaunched: true });
  await expect(bench.state(runId)).resolves.toBe('Running');
  const untilMs = bench.clock.wallMs() + STARTED_LEASE_MS;
  await expect(bench.repository.score('leases', runId)).resolves.toBe(untilMs + LOST_GRACE_MS);
  await bench.control.cancel(ANN, runId, 'kill');
  const renewed = await bench.reports.renew('m1', { ...about(), isLaunched: true });
  expect(renewed.cancel).toEqual({ mode: 'kill', graceSeconds: 10 });
});

describe('result()', () => {
  test('ends the run, frees its slot, keeps its outputs, and is thanked for again', async () => {
    await bench.reports.start('m1', start());
    await expect(bench.repository.count('slots:m1')).resolves.toBe(1);
    const outputs = { text: 'ä"\u{1F600}'.repeat(300_000) };
    const done = result({ outputs, exitCode: 0, accountName: 'svc' });
    await bench.reports.result('m1', done);
    await bench.reports.result('m1', done);
    const { value } = await bench.changes.get(runId);
    expect(value).toMatchObject({ state: 'Succeeded', exitCode: 0, accountName: 'svc' });
    const text = await bench.runs.outputs(ANN, runId);
    expect(JSON.parse(text ?? '')).toEqual({ outputs, sealedOutputs: {} });
    for (const index of ['slots:m1', 'leases', 'deadlines', 'state:Starting']) {
      await expect(bench.repository.score(index, runId)).resolves.toBeUndefined();
    }
    for (const [index, score] of indexesOf(value)) {
      await expect(bench.repository.score(index, runId)).resolves.toBe(score);
    }
    const events = await readEvents(bench.repository, runId, { after: 0, limit: 10 });
    expect(events.map(({ entry }) => entry.type)).toEqual(['queued', 'started', 'completed']);
  });

  test('over the limit ends the run as failed with its code', async () => {
    await bench.reports.start('m1', start());
    await bench.reports.result('m1', result({ outputs: { a: 'x'.repeat(33 * 1024 * 1024) } }));
    const { value } = await bench.changes.get(runId);
    expect(value).toMatchObject({ state: 'Failed', fault: { code: 'OutputTooLarge' } });
    await expect(bench.runs.outputs(ANN, runId)).resolves.toBeUndefined();
  });

  test('of a lost run recovers it', async () => {
    await bench.reports.start('m1', start());
    bench.clock.advance(STARTED_LEASE_MS + LOST_GRACE_MS);
    await bench.changes.advance(runId, { type: 'lease-over' });
    await expect(bench.state(runId)).resolves.toBe('Lost');
    const run = await bench.reports.result('m1', result({ outputs: { a: 1 } }));
    expect(run.value.state).toBe('Succeeded');
    await expect(bench.runs.outputs(ANN, runId)).resolves.toContain('"a":1');
  });

  test('of another machine or attempt is not taken, and leaves nothing behind', async () => {
    await bench.reports.start('m1', start());
    const foreign = result({ outputs: { a: 1 } });
    await expect(bench.reports.result('m2', foreign)).rejects.toMatchObject({ code: 'LeaseLost' });
    await expect(
      bench.reports.result('m1', result({ fence: 2, outputs: { a: 1 } })),
    ).rejects.toMatchObject({ code: 'LeaseLost' });
    const part = await bench.store.get('dev', { kind: 'run-output', id: `${runId}.1.0` });
    expect(part).toBeUndefined();
  });

  test('that tells of a wrong password suspends the connection in the same step', async () => {
    await bench.reports.start('m1', start());
    const error = { code: 'SessionCreationInvalidCredentials', message: 'no' };
    await bench.reports.result('m1', result({ status: 'Failed', error }));
    const connection = await bench.repository.get(CONNECTION, 'c1');
    expect(connection?.value.suspended).toMatchObject({ code: error.code });
    await expect(bench.submit()).rejects.toMatchObject({ code: error.code });
  });
});

test('startInterrupted() gives the run back, and may be said twice', async () => {
  await bench.reports.start('m1', start());
  await bench.reports.startInterrupted('m1', about());
  await bench.reports.startInterrupted('m1', about());
  await expect(bench.state(runId)).resolves.toBe('Queued');
  await expect(bench.reports.start('m1', start())).rejects.toMatchObject({ code: 'LeaseLost' });
});

test('standings() tells what became of the runs in a journal', async () => {
  const entry = { ...about(), state: 'LAUNCHED' as const };
  const standing = async (machine = 'm1', change: object = {}) =>
    (await bench.reports.standings(machine, [{ ...entry, ...change }]))[0]?.standing;
  await expect(standing()).resolves.toBe('current');
  await expect(standing('m2')).resolves.toBe('lost');
  await expect(standing('m1', { fence: 2 })).resolves.toBe('lost');
  await expect(standing('m1', { runId: 'none' })).resolves.toBe('lost');
  await bench.reports.start('m1', start());
  await bench.reports.result('m1', result());
  await expect(standing()).resolves.toBe('over');
});

function chunk(offset: number, text: string, change: object = {}) {
  const bytes = Buffer.from(text);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { ...about(), offset, sha256, bytes, ...change };
}

describe('logs', () => {
  test('are taken once and in order; a gap is answered with where to go on', async () => {
    const { logs } = bench;
    await expect(logs.append('m1', chunk(0, 'abc'))).resolves.toMatchObject({ nextOffset: 3 });
    await expect(logs.append('m1', chunk(5, 'x'))).resolves.toEqual({
      isTaken: false,
      nextOffset: 3,
      isTruncated: false,
    });
    await expect(logs.append('m1', chunk(0, 'abc'))).resolves.toMatchObject({ isTaken: true });
    await logs.append('m1', chunk(3, 'def'));
    const read = await logs.read(runId, { after: 0, limit: 10 });
    expect(read.map(({ bytes }) => bytes.toString())).toEqual(['abc', 'def']);
  });

  test('that do not fit their digest, or are another’s, are refused', async () => {
    const { logs } = bench;
    const wrong = chunk(0, 'abc', { sha256: '0'.repeat(64) });
    await expect(logs.append('m1', wrong)).rejects.toMatchObject({ code: 'TotalChunksMismatch' });
    await expect(logs.append('m2', chunk(0, 'abc'))).rejects.toMatchObject({ code: 'LeaseLost' });
    await expect(logs.append('m1', chunk(0, ''))).rejects.toMatchObject({
      code: 'RequestMalformed',
    });
  });

  test('over the limit are dropped, and the machine is told', async () => {
    const logs = new RunLogs(bench.repository, bench.changes, 4);
    await logs.append('m1', chunk(0, 'abc'));
    await expect(logs.append('m1', chunk(3, 'def'))).resolves.toEqual({
      isTaken: true,
      nextOffset: 3,
      isTruncated: true,
    });
    await expect(logs.append('m1', chunk(6, 'def'))).resolves.toMatchObject({ isTruncated: true });
    expect(await logs.read(runId, { after: 0, limit: 10 })).toHaveLength(1);
  });
});
