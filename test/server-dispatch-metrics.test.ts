import { expect, test } from 'vitest';
import type { ApiRequest, ApiResponse } from '../src/api/api-request.ts';
import { createMetrics } from '../src/observability/metrics.ts';
import { meteredApi, meteredStore, routeOf } from '../src/server-dispatch-meters.ts';
import { collectDispatch, DISPATCH_METRICS } from '../src/server-dispatch-metrics.ts';
import { DispatchSampler } from '../src/server-dispatch-sample.ts';
import { openMemoryDispatchStore } from '../src/store/memory-dispatch-store.ts';
import { ANN, dispatchBench } from './support/dispatch.ts';
import { FakeClock } from './support/fake-clock.ts';
import { FakeMeter } from './support/relay-doubles.ts';
import { silentLogger } from './support/silent-logger.ts';

const MACHINE_ONE = { kind: 'machine', id: 'm1' } as const;

test.each([
  ['/$api/v1/me', 'me'],
  ['/$api/v1/environments', 'environments'],
  ['/$api/v1/environments/dev', 'environments'],
  ['/$api/v1/environments/dev/runs/123:cancel', 'runs'],
  ['/$api/v1/environments/dev/machines:register', 'machines'],
  ['/$api/v1/environments/dev/agent/runs/123/attempts/1/start', 'agent'],
  ['/$api/v1/hooks/dev/one', 'hooks'],
  ['/$api/v1/environments/dev/made-up', '_other'],
  ['/$api/v2/me', '_other'],
  ['/elsewhere', '_other'],
])('routeOf(%s) is %s, never an id', (path, route) => {
  expect(routeOf(path)).toBe(route);
});

test('meteredStore() counts a run that ends once, with its code', async () => {
  const meter = new FakeMeter();
  const bench = dispatchBench(meteredStore(openMemoryDispatchStore(), meter));
  await bench.addMachine('m1');
  await bench.addConnection('c1', MACHINE_ONE);
  const [cancelled, left] = [await bench.submit(), await bench.submit()];
  await bench.control.cancel(ANN, cancelled, 'stop');
  await bench.control.cancel(ANN, cancelled, 'stop').catch(() => undefined);
  expect(await bench.state(left)).toBe('Queued');
  expect(Object.fromEntries(meter.counts)).toEqual({
    'halfway_dispatch_runs_ended_total{"state":"Cancelled","code":""}': 1,
  });
});

test('meteredStore() makes no label of what is no code', async () => {
  const meter = new FakeMeter();
  const store = meteredStore(openMemoryDispatchStore(), meter);
  const ended = (id: string, fault: object) =>
    store.step('dev', {
      conditions: [],
      puts: [{ key: { kind: 'run', id }, text: JSON.stringify({ fault }) }],
      adds: [{ index: 'state:Lost', member: id, score: 1 }],
    });
  await ended('a', { code: 'AgentNotReachable' });
  await ended('b', { code: 'x'.repeat(1_000) });
  expect(Object.fromEntries(meter.counts)).toEqual({
    'halfway_dispatch_runs_ended_total{"state":"Lost","code":"AgentNotReachable"}': 1,
    'halfway_dispatch_runs_ended_total{"state":"Lost","code":"_other"}': 1,
    'halfway_dispatch_leases_lost_total{}': 2,
  });
});

test('meteredApi() counts requests by what they are about', async () => {
  const meter = new FakeMeter();
  const answer: ApiResponse = { status: 404, headers: {} };
  const handle = meteredApi(() => Promise.resolve(answer), new FakeClock(), meter);
  expect(await handle(request('/$api/v1/environments/dev/runs/none'))).toBe(answer);
  await handle(request('/$api/v1/environments/dev/runs/1/logs', 'wait=25'));
  expect(Object.fromEntries(meter.counts)).toEqual({
    'halfway_dispatch_api_requests_total{"route":"runs","status":"404"}': 2,
  });
});

test('DispatchSampler reads queues, runs and machines, and not again while that is fresh', async () => {
  const store = openMemoryDispatchStore();
  const bench = dispatchBench(store);
  await store.step('~', {
    conditions: [],
    adds: [{ index: 'environments', member: 'dev', score: 1 }],
  });
  await bench.addMachine('m1');
  await bench.addMachine('m2', { isInMaintenance: true });
  await bench.addGroup('g1');
  await bench.setPresence('m1');
  await bench.addConnection('c1', MACHINE_ONE);
  await bench.submit();
  bench.clock.advance(30_000);
  await bench.submit();
  bench.clock.advance(60_000);
  const sampler = new DispatchSampler(store, bench.clock, silentLogger);
  await sampler.refresh();
  await bench.submit();
  await sampler.refresh();
  const metrics = createMetrics([DISPATCH_METRICS], { defaultMetrics: false });
  const text = async (): Promise<string> => {
    collectDispatch(metrics, {
      sample: sampler.latest(),
      waiters: 3,
      traffic: undefined,
      isDurable: true,
    });
    return metrics.text();
  };
  const lines = await text();
  const dev = 'environment="dev"';
  for (const line of [
    `halfway_dispatch_queue_depth{${dev},target="machine"} 2`,
    `halfway_dispatch_queue_depth{${dev},target="group"} 0`,
    `halfway_dispatch_deepest_queue{${dev},target="machine"} 2`,
    `halfway_dispatch_queue_oldest_age_seconds{${dev},target="machine"} 90`,
    `halfway_dispatch_queue_oldest_age_seconds{${dev},target="group"} 0`,
    `halfway_dispatch_runs{${dev},state="Queued"} 2`,
    `halfway_dispatch_machines{${dev},state="Active",presence="Stale"} 1`,
    `halfway_dispatch_machines{${dev},state="Maintenance",presence="NeverConnected"} 1`,
    'halfway_dispatch_api_waiters 3',
    'halfway_dispatch_records_durable 1',
  ]) {
    expect(lines).toContain(`${line}\n`);
  }
  bench.clock.advance(10_000);
  await sampler.refresh();
  expect(await text()).toContain(`halfway_dispatch_queue_depth{${dev},target="machine"} 3\n`);
});

test('DispatchSampler keeps what it knew while the store is away, and says so', async () => {
  const store = openMemoryDispatchStore();
  const clock = new FakeClock();
  const sampler = new DispatchSampler(store, clock, silentLogger);
  await sampler.refresh();
  await store.close();
  clock.advance(10_000);
  await sampler.refresh();
  expect(sampler.latest()).toMatchObject({ failures: 1 });
});

function request(path: string, query = ''): ApiRequest {
  return {
    method: 'GET',
    path,
    query: new URLSearchParams(query),
    headers: new Map(),
    readBody: () => Promise.resolve(new Uint8Array()),
    remoteAddress: '203.0.113.7',
    signal: new AbortController().signal,
  };
}
