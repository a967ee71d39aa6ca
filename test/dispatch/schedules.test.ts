import { beforeEach, describe, expect, test } from 'vitest';
import type { Principal } from '../../src/dispatch/access.ts';
import { readAudit } from '../../src/dispatch/audit.ts';
import { Environments } from '../../src/dispatch/environments.ts';
import { RunAs } from '../../src/dispatch/run-as.ts';
import { ScheduleFiring } from '../../src/dispatch/schedule-firing.ts';
import { Schedules } from '../../src/dispatch/schedules.ts';
import { WAITING_RUNS_MAX } from '../../src/jobs/limits.ts';
import { ANN, dispatchBench, DISPATCH_START_MS, type DispatchBench } from '../support/dispatch.ts';

const MINUTE_MS = 60_000;
const ADMIN: Principal = { name: 'token:bootstrap', isAdmin: true };
const BOB = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
const JOB = { ref: 'nightly', kind: 'command', command: ['true'] };

let bench: DispatchBench;
let schedules: Schedules;
let firing: ScheduleFiring;
let gone: Set<string>;

beforeEach(async () => {
  bench = dispatchBench();
  gone = new Set();
  const environments = new Environments(bench.store, bench.clock);
  await environments.create(ADMIN, { id: 'dev' });
  await environments.setRole(ADMIN, 'dev', 'user:ann', 'maker');
  await environments.setRole(ADMIN, 'dev', 'user:bob', 'user');
  schedules = new Schedules(bench.repository, bench.clock);
  firing = newFiring(environments);
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

function newFiring(environments: Environments): ScheduleFiring {
  const runAs = new RunAs({
    environment: 'dev',
    environments,
    runs: bench.runs,
    principalNamed: name => Promise.resolve(gone.has(name) ? undefined : { name, isAdmin: false }),
  });
  return new ScheduleFiring(bench.repository, runAs, bench.clock);
}

function body(change: object = {}) {
  return { name: 'nightly', everySeconds: 600, run: { connectionId: 'c1', job: JOB }, ...change };
}

async function runs(): Promise<number> {
  return bench.repository.count('runs');
}

async function outcomes(id: string): Promise<readonly string[]> {
  const history = await schedules.history(ANN, id, { after: 0, limit: 100 });
  return history.map(({ entry }) => entry.outcome);
}

describe('a schedule', () => {
  test('starts a run when its time has come, and is due again', async () => {
    const { id, value } = await schedules.create(ANN, body());
    expect(value).toMatchObject({ runOwner: 'user:ann', isEnabled: true, onMissed: 'skip' });
    await firing.sweep();
    await expect(runs()).resolves.toBe(0);
    bench.clock.advance(600_000);
    await firing.sweep();
    await firing.sweep();
    await expect(runs()).resolves.toBe(1);
    const { value: after } = await schedules.get(ANN, id);
    expect(after).toMatchObject({
      nextAtMs: DISPATCH_START_MS + 1_200_000,
      last: { outcome: 'started', dueAtMs: DISPATCH_START_MS + 600_000 },
    });
    const run = await bench.changes.get(after.last?.runId ?? '');
    expect(run.value).toMatchObject({ owner: 'user:ann', trigger: 'schedule', jobRef: 'nightly' });
  });

  test('starts one run for each time, however many look at once', async () => {
    const { id } = await schedules.create(ANN, body());
    const environments = new Environments(bench.store, bench.clock);
    const nodes = Array.from({ length: 5 }, () => newFiring(environments));
    for (let time = 1; time <= 4; time += 1) {
      bench.clock.advance(600_000);
      await Promise.all(nodes.map(node => node.sweep()));
      await expect(runs()).resolves.toBe(time);
    }
    await expect(outcomes(id)).resolves.toEqual(['started', 'started', 'started', 'started']);
  });

  test('skips the times at which nobody was there, or makes up for all of them by one run', async () => {
    const skipping = await schedules.create(ANN, body());
    const making = await schedules.create(ANN, body({ onMissed: 'once' }));
    bench.clock.advance(6 * 600_000 + 2 * MINUTE_MS);
    await firing.sweep();
    await expect(outcomes(skipping.id)).resolves.toEqual(['missed']);
    await expect(outcomes(making.id)).resolves.toEqual(['started']);
    await expect(runs()).resolves.toBe(1);
    bench.clock.advance(8 * MINUTE_MS);
    await firing.sweep();
    await expect(outcomes(skipping.id)).resolves.toEqual(['missed', 'started']);
    await expect(outcomes(making.id)).resolves.toEqual(['started', 'started']);
  });

  test('has the rights of its owner at that time, not those of when it was made', async () => {
    const { id } = await schedules.create(ANN, body());
    gone.add('user:ann');
    bench.clock.advance(600_000);
    await firing.sweep();
    await expect(runs()).resolves.toBe(0);
    const { value } = await schedules.get(ANN, id);
    expect(value.last).toMatchObject({ outcome: 'failed', code: 'AccessDenied' });
    // It goes on trying.
    gone.clear();
    bench.clock.advance(600_000);
    await firing.sweep();
    await expect(outcomes(id)).resolves.toEqual(['failed', 'started']);
  });

  test('that finds the queue full stays due for a minute', async () => {
    const { id } = await schedules.create(ANN, body());
    await bench.fillQueue('q:machine:m1', WAITING_RUNS_MAX);
    bench.clock.advance(600_000);
    await firing.sweep();
    await expect(outcomes(id)).resolves.toEqual([]);
    bench.clock.advance(MINUTE_MS + 1);
    await firing.sweep();
    // The policy of missed times decides then.
    await expect(outcomes(id)).resolves.toEqual(['missed']);
  });

  test('starts however many before it find no room', async () => {
    await bench.addMachine('m2');
    await bench.addConnection('c2', { kind: 'machine', id: 'm2' });
    await bench.fillQueue('q:machine:m1', WAITING_RUNS_MAX);
    for (let n = 0; n < 201; n += 1) await schedules.create(ANN, body());
    bench.clock.advance(1_000);
    const { id } = await schedules.create(ANN, body({ run: { connectionId: 'c2', job: JOB } }));
    bench.clock.advance(600_000);
    await firing.sweep();
    await expect(outcomes(id)).resolves.toEqual(['started']);
  });

  test('that is disabled is not due, and begins anew when it is enabled', async () => {
    const { id, version } = await schedules.create(ANN, body());
    await schedules.patch(ANN, id, version, { isEnabled: false });
    bench.clock.advance(700_000);
    await firing.sweep();
    await expect(runs()).resolves.toBe(0);
    const { value } = await schedules.patch(ANN, id, 2, { isEnabled: true });
    expect(value.nextAtMs).toBe(DISPATCH_START_MS + 1_200_000);
  });

  test('that cannot be read holds up no other', async () => {
    const first = await schedules.create(ANN, body());
    const second = await schedules.create(ANN, body());
    const [spoiled = '', other = ''] = [first.id, second.id].toSorted();
    await bench.store.step('dev', {
      conditions: [],
      puts: [{ key: { kind: 'schedule', id: spoiled }, text: '{}' }],
    });
    bench.clock.advance(600_000);
    await expect(firing.sweep()).rejects.toMatchObject({ name: 'UnreadableRecord' });
    await expect(outcomes(other)).resolves.toEqual(['started']);
  });

  test('is gone with its history when it is deleted', async () => {
    const { id, version } = await schedules.create(ANN, body());
    await schedules.delete(ANN, id, version);
    bench.clock.advance(600_000);
    await firing.sweep();
    await expect(runs()).resolves.toBe(0);
    await expect(schedules.get(ANN, id)).rejects.toMatchObject({ code: 'NotFound' });
    await expect(bench.repository.count('schedules-due')).resolves.toBe(0);
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toEqual(['schedule.create', 'schedule.delete']);
  });
});

describe('what a schedule says', () => {
  test('is checked with all its faults', async () => {
    const refused = (change: object) => expect(schedules.create(ANN, body(change))).rejects;
    await refused({ everySeconds: 59 }).toMatchObject({ errors: [{ path: 'everySeconds' }] });
    await refused({ cron: '* * * * *' }).toMatchObject({ code: 'RequestMalformed' });
    await refused({ everySeconds: undefined }).toMatchObject({ code: 'RequestMalformed' });
    await refused({ everySeconds: undefined, cron: '0 0 30 2 *' }).toMatchObject({
      errors: [{ path: 'cron', message: 'never comes' }],
    });
    const many = { name: '', timeZone: 'Mars/X', run: { connectionId: 'c1', job: {} }, more: 1 };
    const failure: unknown = await schedules.create(ANN, body(many)).catch((e: unknown) => e);
    expect(failure).toMatchObject({ code: 'RequestMalformed' });
    expect(JSON.stringify(failure)).toMatch(/name.*timeZone.*run\.job\.ref/);
    for (const own of [{ id: 'r1' }, { parentRunId: 'r1' }, { callbackUrl: 'https://10.0.0.1/' }]) {
      const run = { connectionId: 'c1', job: JOB, ...own };
      await refused({ run }).toMatchObject({ errors: [{ path: 'run' }] });
    }
    await expect(runs()).resolves.toBe(0);
  });

  test('takes who may use its connection', async () => {
    await expect(schedules.create(BOB, body())).rejects.toMatchObject({ code: 'AccessDenied' });
    const reader = { ...BOB, role: 'reader' } as const;
    await expect(schedules.create(reader, body())).rejects.toMatchObject({ code: 'AccessDenied' });
    const run = { connectionId: 'none', job: JOB };
    await expect(schedules.create(ANN, body({ run }))).rejects.toMatchObject({
      code: 'ConnectionNotFound',
    });
    await bench.addConnection('signed-in', { kind: 'machine', id: 'm1' }, { kind: 'none' });
    const alone = { connectionId: 'signed-in', job: JOB };
    await expect(schedules.create(ANN, body({ run: alone }))).rejects.toMatchObject({
      code: 'UnattendedUnsupportedWithOldConnection',
    });
  });

  test('is run with the rights of whoever said it last', async () => {
    const { id } = await schedules.create(ANN, body());
    await schedules.setAccess(ANN, id, 'user:bob', 'edit');
    // Bob may edit the schedule, but not make it run what Ann may and he may not.
    const run = { connectionId: 'c1', job: { ...JOB, command: ['false'] } };
    await expect(schedules.patch(BOB, id, 2, { run })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await bench.addConnection('c2', { kind: 'machine', id: 'm1' }, { owner: 'user:bob' });
    const other = { run: { ...run, connectionId: 'c2' } };
    await expect(schedules.patch(BOB, id, 2, other)).resolves.toMatchObject({
      value: { runOwner: 'user:bob', owner: 'user:ann' },
    });
  });

  test('is made once for an Idempotency-Key, and changed by who has read it', async () => {
    const first = await schedules.create(ANN, body(), 'key');
    await expect(schedules.create(ANN, body(), 'key')).resolves.toMatchObject({ id: first.id });
    await expect(schedules.patch(ANN, first.id, 7, { name: 'x' })).rejects.toMatchObject({
      code: 'PreconditionFailed',
    });
    await expect(schedules.delete(ANN, first.id, undefined)).rejects.toMatchObject({
      code: 'PreconditionRequired',
    });
    const { value } = await schedules.patch(ANN, first.id, 1, { cron: '0 3 * * *' });
    expect(value.everySeconds).toBeUndefined();
    expect(value.cron).toBe('0 3 * * *');
  });
});
