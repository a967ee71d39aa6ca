import { beforeEach, describe, expect, test } from 'vitest';
import { readAudit } from '../../src/dispatch/audit.ts';
import type { Caller } from '../../src/dispatch/access.ts';
import { Problem } from '../../src/dispatch/problem.ts';
import { readEvents } from '../../src/dispatch/run-events.ts';
import { indexesOf } from '../../src/dispatch/run-indexes.ts';
import { WAITING_RUNS_MAX } from '../../src/jobs/limits.ts';
import { ANN, dispatchBench, ENVIRONMENT_DEV, type DispatchBench } from '../support/dispatch.ts';

const BOB: Caller = { name: 'user:bob', isAdmin: false, role: 'user' };
const JOB = { ref: 'job', kind: 'command', command: ['true'] };

let bench: DispatchBench;
beforeEach(async () => {
  bench = dispatchBench();
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

function submitAs(caller: Caller, body: unknown, key?: string) {
  return bench.runs.submit(caller, ENVIRONMENT_DEV, { body, key, trigger: 'api' });
}

function runWith(connectionId: string, caller = ANN, more = {}) {
  return submitAs(caller, { connectionId, job: JOB, ...more });
}

describe('submit()', () => {
  test('queues a run, in all its indexes, with its first event', async () => {
    const id = await bench.submit({ priority: 'high', inputs: { a: 1 } });
    const run = await bench.changes.get(id);
    for (const [index, score] of indexesOf(run.value)) {
      await expect(bench.repository.score(index, id)).resolves.toBe(score);
    }
    await expect(bench.runs.input(ANN, id)).resolves.toMatchObject({ inputs: { a: 1 } });
    const events = await readEvents(bench.repository, id, { after: 0, limit: 10 });
    expect(events.map(({ entry }) => entry.type)).toEqual(['queued']);
  });

  test('tells all faults at once', async () => {
    const body = { connectionId: '', job: { ref: '', kind: 'command' }, mode: 'x', more: 1 };
    const error = await submitAs(ANN, body).catch((thrown: unknown) => thrown);
    if (!(error instanceof Problem)) throw new Error('no problem');
    expect(error.code).toBe('RequestMalformed');
    const paths = error.errors.map(({ path }) => path);
    expect(paths).toEqual(expect.arrayContaining(['connectionId', 'job.ref', 'mode', 'more']));
  });

  test('refuses inputs over the limit, and a command without a program', async () => {
    const large = { connectionId: 'c1', job: JOB, inputs: { a: 'x'.repeat(2 * 1024 * 1024) } };
    await expect(submitAs(ANN, large)).rejects.toMatchObject({ errors: [{ path: 'inputs' }] });
    const empty = { connectionId: 'c1', job: { ref: 'a', kind: 'command' } };
    await expect(submitAs(ANN, empty)).rejects.toMatchObject({ errors: [{ path: 'job' }] });
  });

  test.each(['http://a.example/', 'https://localhost/', 'https://127.1/', 'https://[::1]/', 'x'])(
    'refuses the callback %s',
    async callbackUrl => {
      const body = { connectionId: 'c1', job: JOB, callbackUrl };
      await expect(submitAs(ANN, body)).rejects.toMatchObject({ code: 'CallbackUrlRefused' });
    },
  );

  test('gives the same run for the same key, another for another caller, and no other body', async () => {
    const body = { connectionId: 'c1', job: JOB };
    const first = await submitAs(ANN, body, 'k1');
    const second = await submitAs(ANN, body, 'k1');
    expect(second).toMatchObject({ isRepeated: true, run: { id: first.run.id } });
    const other = await submitAs(ANN, body, 'k2');
    expect(other.run.id).not.toBe(first.run.id);
    const changed = { ...body, priority: 'high' };
    await expect(submitAs(ANN, changed, 'k1')).rejects.toMatchObject({
      code: 'IdempotencyKeyReused',
    });
    bench.clock.advance(24 * 3600_000);
    await expect(submitAs(ANN, body, 'k1')).resolves.toMatchObject({ isRepeated: false });
  });

  test('makes one run of many requests with one key at the same time', async () => {
    const body = { connectionId: 'c1', job: JOB };
    const all = await Promise.all(Array.from({ length: 10 }, () => submitAs(ANN, body, 'k')));
    expect(new Set(all.map(({ run }) => run.id)).size).toBe(1);
    await expect(bench.repository.count('runs')).resolves.toBe(1);
  });

  test('refuses what is not there, not allowed, empty or suspended', async () => {
    await expect(runWith('none')).rejects.toMatchObject({ code: 'ConnectionNotFound' });
    await expect(runWith('c1', BOB)).rejects.toMatchObject({ code: 'AccessDenied' });
    await expect(runWith('c1', { ...ANN, role: 'reader' })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await bench.addConnection('gone', { kind: 'machine', id: 'm9' });
    await expect(runWith('gone')).rejects.toMatchObject({ code: 'MachineNotFound' });
    await bench.addConnection('gone-group', { kind: 'group', id: 'g9' });
    await expect(runWith('gone-group')).rejects.toMatchObject({ code: 'MachineGroupNotFound' });
    await bench.addGroup('g1');
    await bench.addConnection('empty', { kind: 'group', id: 'g1' });
    await expect(runWith('empty')).rejects.toMatchObject({ code: 'GroupIsEmpty' });
    const target = { kind: 'machine', id: 'm1' } as const;
    await bench.addConnection('signed-in', target, { kind: 'none' });
    await expect(runWith('signed-in')).rejects.toMatchObject({
      code: 'UnattendedUnsupportedWithOldConnection',
    });
    await expect(runWith('signed-in', ANN, { mode: 'attended' })).resolves.toBeDefined();
    const suspended = { code: 'AccountLockedOut', atMs: 1 };
    await bench.addConnection('suspended', target, { suspended });
    await expect(runWith('suspended')).rejects.toMatchObject({
      code: 'SessionCreationInvalidCredentials',
    });
  });

  test('a connection that was shared runs for its owner, whose right on the machine counts', async () => {
    const access = { 'user:bob': 'use' } as const;
    await bench.addConnection('shared', { kind: 'machine', id: 'm1' }, { access });
    await expect(submitAs(BOB, { connectionId: 'shared', job: JOB })).resolves.toBeDefined();
    await bench.addMachine('m2', { owner: 'user:carl' });
    await bench.addConnection('foreign', { kind: 'machine', id: 'm2' }, { access });
    await expect(submitAs(BOB, { connectionId: 'foreign', job: JOB })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
  });

  test('takes 70 runs of a connection in a minute, also all at once', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 80 }, () => bench.submit()));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(70);
    await expect(bench.submit()).rejects.toMatchObject({
      code: 'DesktopFlowsActionThrottled',
      retryAfterSeconds: 60 - (bench.clock.wallMs() % 60_000) / 1_000,
    });
    bench.clock.advance(60_000);
    for (let count = 0; count < 70; count += 1) await bench.submit();
    await expect(bench.submit()).rejects.toMatchObject({ code: 'DesktopFlowsActionThrottled' });
    bench.clock.advance(60_000);
    await expect(bench.submit()).resolves.toBeDefined();
  });

  test('refuses when as many wait as may', async () => {
    for (let count = 0; count < WAITING_RUNS_MAX; count += 1) {
      if (count % 50 === 0) bench.clock.advance(60_000);
      await bench.submit();
    }
    bench.clock.advance(60_000);
    await expect(bench.submit()).rejects.toMatchObject({ code: 'QueueFull' });
  });
});

describe('list()', () => {
  test('goes through pages, the latest first, and filters', async () => {
    const ids: string[] = [];
    for (let count = 0; count < 5; count += 1) {
      bench.clock.advance(1);
      ids.unshift(await bench.submit());
    }
    await bench.control.cancel(ANN, ids[2] ?? '', 'stop');
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const page = await bench.runs.list(ANN, { limit: 2, after });
      seen.push(...page.items.map(({ id }) => id));
      after = page.next;
    } while (after !== undefined);
    expect(seen).toEqual(ids);
    const cancelled = await bench.runs.list(ANN, { state: 'Cancelled' });
    expect(cancelled.items.map(({ id }) => id)).toEqual([ids[2]]);
    const waiting = await bench.runs.list(ANN, { connectionId: 'c1', state: 'Queued' });
    expect(waiting.items).toHaveLength(4);
    await expect(bench.runs.list(ANN, { after: '!' })).rejects.toMatchObject({
      errors: [{ path: 'after' }],
    });
  });
});

describe('run control', () => {
  test('moves to the top, the last one first, and back to the old place', async () => {
    const ids: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      bench.clock.advance(1);
      ids.push(await bench.submit());
    }
    const [a = '', b = '', c = ''] = ids;
    const order = async () => {
      const page = await bench.runs.queue(ANN, { kind: 'machine', id: 'm1' }, {});
      return page.items.map(({ id }) => id);
    };
    await bench.control.moveToTop(ANN, b);
    await bench.control.moveToTop(ANN, c);
    await expect(order()).resolves.toEqual([c, b, a]);
    await bench.control.undoMove(ANN, c);
    await expect(order()).resolves.toEqual([b, a, c]);
    const run = await bench.changes.get(c);
    await bench.control.setPriority(ANN, c, run.version, 'high');
    await expect(order()).resolves.toEqual([b, c, a]);
    await expect(bench.control.setPriority(ANN, c, run.version, 'normal')).rejects.toMatchObject({
      code: 'PreconditionFailed',
    });
    const entries = await readAudit(bench.repository, { after: 0, limit: 10 });
    expect(entries.map(({ action }) => action)).toEqual([
      'run.movedToTop',
      'run.movedToTop',
      'run.movedBack',
      'run.priorityChanged',
    ]);
  });

  test('cancel() ends a run that waits, with its children, and only for whoever may', async () => {
    const parent = await bench.submit();
    const child = await bench.submit({ parentRunId: parent });
    const grandchild = await bench.submit({ parentRunId: child });
    await expect(bench.control.cancel(BOB, parent, 'stop')).rejects.toMatchObject({
      code: 'AccessDenied',
    });
    await bench.control.cancel(ANN, parent, 'stop');
    for (const id of [parent, child, grandchild]) {
      await expect(bench.state(id)).resolves.toBe('Cancelled');
    }
    await expect(bench.control.cancel(ANN, parent, 'stop')).rejects.toMatchObject({
      code: 'RunStateConflict',
    });
    await expect(bench.repository.count('q:machine:m1')).resolves.toBe(0);
  });
});
