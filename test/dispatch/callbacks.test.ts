import { beforeEach, describe, expect, test } from 'vitest';
import { CallbackDelivery, retryAfterMs } from '../../src/dispatch/callback-delivery.ts';
import { CallbackKeys } from '../../src/dispatch/callback-keys.ts';
import type { CallbackAnswer, CallbackRequest } from '../../src/dispatch/callback-sender.ts';
import { readEvents } from '../../src/dispatch/run-events.ts';
import { isWebhookSigned } from '../../src/dispatch/webhook-signature.ts';
import { ANN, dispatchBench, type DispatchBench } from '../support/dispatch.ts';
import { settled } from '../support/fake-machines.ts';
import { silentLogger } from '../support/silent-logger.ts';

const URL_TEXT = 'https://example.com/done?key=1';
const HOUR_MS = 3_600_000;

let bench: DispatchBench;
let keys: CallbackKeys;
let requests: CallbackRequest[];
let answer: CallbackAnswer;
let delivery: CallbackDelivery;

beforeEach(async () => {
  bench = dispatchBench();
  keys = new CallbackKeys(bench.repository, bench.clock);
  requests = [];
  answer = { type: 'answer', status: 204 };
  delivery = newDelivery();
  await bench.addMachine('m1');
  await bench.addConnection('c1', { kind: 'machine', id: 'm1' });
});

function newDelivery(): CallbackDelivery {
  const made = new CallbackDelivery({
    repository: bench.repository,
    sender: {
      send: request => {
        requests.push(request);
        return Promise.resolve(answer);
      },
    },
    keys,
    clock: bench.clock,
    log: silentLogger,
    wake: () => void made.sweep(),
  });
  return made;
}

async function events(runId: string): Promise<readonly string[]> {
  const found = await readEvents(bench.repository, runId, { after: 0, limit: 100 });
  return found.map(({ entry }) => entry.type);
}

/** A run that has ended. */
async function ended(change: object = { callbackUrl: URL_TEXT }): Promise<string> {
  const id = await bench.submit(change);
  await bench.control.cancel(ANN, id, 'stop');
  return id;
}

describe('the end of a run', () => {
  test('is written down as a callback in its own step, and told once', async () => {
    const id = await ended();
    await expect(bench.repository.count('outbox')).resolves.toBe(1);
    await delivery.sweep();
    await delivery.sweep();
    expect(requests).toHaveLength(1);
    const { url = '', body = '', headers = {} } = requests[0] ?? {};
    expect(url).toBe(URL_TEXT);
    expect(JSON.parse(body)).toMatchObject({
      type: 'run.ended',
      data: { environment: 'dev', runId: id, state: 'Cancelled', status: 7, jobRef: 'job' },
    });
    const secret = (await keys.read(ANN)).slice('whsec_'.length);
    const signed = {
      id: headers['webhook-id'] ?? '',
      timestamp: headers['webhook-timestamp'] ?? '',
      signature: headers['webhook-signature'] ?? '',
    };
    expect(isWebhookSigned([secret], signed, body)).toBe(true);
    await expect(bench.repository.count('outbox')).resolves.toBe(0);
    await expect(events(id)).resolves.toContain('callbackDelivered');
  });

  test('is told of a run whose id is as long as it may be, with its outputs', async () => {
    await bench.setPresence('m1');
    const id = await bench.submit({ id: 'r'.repeat(64), callbackUrl: URL_TEXT });
    await bench.changes.advance(id, { type: 'picked', machineId: 'm1' });
    const about = { runId: id, attempt: 1, fence: 1 };
    await bench.reports.start('m1', { ...about, instance: 'i1' });
    const outputs = { text: 'x' };
    const result = { v: 1, type: 'result', ...about, status: 'Succeeded', outputs } as const;
    await bench.reports.result('m1', result);
    await delivery.sweep();
    expect(requests).toHaveLength(1);
    await expect(bench.runs.outputs(ANN, id)).resolves.toContain('"x"');
  });

  test('without an address is told nobody', async () => {
    await ended({});
    await expect(bench.repository.count('outbox')).resolves.toBe(0);
  });

  test('of a lost run whose result comes after all is told twice, as two deliveries', async () => {
    await bench.setPresence('m1');
    const id = await bench.submit({ callbackUrl: URL_TEXT });
    await bench.changes.advance(id, { type: 'picked', machineId: 'm1' });
    const about = { runId: id, attempt: 1, fence: 1 };
    await bench.reports.start('m1', { ...about, instance: 'i1' });
    bench.clock.advance(300_000);
    await bench.changes.advance(id, { type: 'lease-over' });
    await bench.reports.result('m1', { v: 1, type: 'result', ...about, status: 'Succeeded' });
    await delivery.sweep();
    expect(requests.map(({ headers }) => headers['webhook-id'])).toEqual([
      `${id}.Lost`,
      `${id}.Succeeded`,
    ]);
  });

  test('has a key of each principal, which readers do not get', async () => {
    const bob = { name: 'user:bob', isAdmin: false, role: 'user' } as const;
    expect(await keys.read(ANN)).not.toBe(await keys.read(bob));
    // Another process has the same.
    const others = new CallbackKeys(bench.repository, bench.clock);
    await expect(others.read(ANN)).resolves.toBe(await keys.read(ANN));
    await expect(keys.read({ ...bob, role: 'reader' })).rejects.toMatchObject({
      code: 'AccessDenied',
    });
  });
});

describe('a callback that fails', () => {
  test.each([
    { type: 'answer', status: 500 },
    { type: 'answer', status: 503 },
    { type: 'answer', status: 408 },
    { type: 'answer', status: 429 },
    { type: 'fault', why: 'unreachable' },
    { type: 'fault', why: 'name-unknown' },
    { type: 'fault', why: 'timeout' },
  ] as const)('with %j is tried again, the same to the letter', async failure => {
    await ended();
    answer = failure;
    await delivery.sweep();
    answer = { type: 'answer', status: 200 };
    bench.clock.advance(999);
    await settled();
    expect(requests).toHaveLength(1);
    bench.clock.advance(1);
    await settled();
    expect(requests).toHaveLength(2);
    expect(requests[1]?.body).toBe(requests[0]?.body);
    expect(requests[1]?.headers['webhook-id']).toBe(requests[0]?.headers['webhook-id']);
    await expect(bench.repository.count('outbox')).resolves.toBe(0);
  });

  test.each([
    { type: 'answer', status: 302 },
    { type: 'answer', status: 404 },
    { type: 'answer', status: 410 },
    { type: 'fault', why: 'address-refused' },
  ] as const)('with %j is given up at once', async failure => {
    const id = await ended();
    answer = failure;
    await delivery.sweep();
    bench.clock.advance(HOUR_MS);
    await delivery.sweep();
    expect(requests).toHaveLength(1);
    await expect(events(id)).resolves.toContain('callbackFailed');
    await expect(bench.repository.count('outbox')).resolves.toBe(0);
    expect(bench.clock.pendingTasks).toBe(0);
  });

  test('is tried three times a second, ever later after, and for a day', async () => {
    expect([1, 2, 3, 4, 5, 6, 30].map(retryAfterMs)).toEqual([
      1_000, 1_000, 1_000, 2_000, 4_000, 8_000, 3_600_000,
    ]);
    const id = await ended();
    answer = { type: 'answer', status: 500 };
    for (let minutes = 0; minutes < 25 * 60; minutes += 1) {
      await delivery.sweep();
      bench.clock.advance(60_000);
      await settled(1);
    }
    // 3 and 13 that double up to an hour, then one each hour.
    expect(requests.length).toBeGreaterThan(25);
    expect(requests.length).toBeLessThan(45);
    await expect(bench.repository.count('outbox')).resolves.toBe(0);
    await expect(events(id)).resolves.toContain('callbackFailed');
  });
});

describe('several at once', () => {
  test('tell each end once', async () => {
    for (let count = 0; count < 10; count += 1) await ended();
    await Promise.all([delivery, newDelivery(), newDelivery()].map(one => one.sweep()));
    const ids = requests.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(10);
    expect(ids).toHaveLength(10);
  });

  test('take up what one that died had taken up', async () => {
    await ended();
    const dying = newDelivery();
    answer = { type: 'answer', status: 200 };
    const never = new CallbackDelivery({
      repository: bench.repository,
      sender: { send: () => new Promise(() => undefined) },
      keys,
      clock: bench.clock,
      log: silentLogger,
      wake: () => undefined,
    });
    void never.sweep();
    await settled();
    await dying.sweep();
    expect(requests).toHaveLength(0);
    bench.clock.advance(60_000);
    await dying.sweep();
    expect(requests).toHaveLength(1);
  });

  test('leave nothing waiting when they are stopped', async () => {
    await ended();
    answer = { type: 'answer', status: 500 };
    await delivery.sweep();
    delivery.stop();
    expect(bench.clock.pendingTasks).toBe(0);
    await delivery.sweep();
    expect(requests).toHaveLength(1);
  });
});
