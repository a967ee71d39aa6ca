import { expect, test } from 'vitest';
import { createMetrics, type Metrics } from '../../src/observability/metrics.ts';
import { SummedMetrics } from '../../src/workers/sum-metrics.ts';

const LIST = [
  { name: 'halfway_things_total', kind: 'counter', help: 'Things', labels: ['kind'] },
  { name: 'halfway_open', kind: 'gauge', help: 'Open' },
  { name: 'halfway_redis_up', kind: 'gauge', help: 'Up' },
  { name: 'halfway_cluster_nodes', kind: 'gauge', help: 'Nodes' },
  { name: 'halfway_dispatch_queue_depth', kind: 'gauge', help: 'Waiting' },
  { name: 'halfway_wait_seconds', kind: 'histogram', help: 'Wait', buckets: [1, 2] },
] as const;

function aWorker(things: number, isUp: boolean): Metrics {
  const metrics = createMetrics([LIST], { defaultMetrics: false });
  metrics.counter('halfway_things_total').inc({ kind: 'x' }, things);
  metrics.gauge('halfway_open').set(things);
  metrics.gauge('halfway_redis_up').set(isUp ? 1 : 0);
  metrics.gauge('halfway_cluster_nodes').set(2);
  metrics.gauge('halfway_dispatch_queue_depth').set(5);
  metrics.histogram('halfway_wait_seconds').observe(1.5);
  return metrics;
}

const NOTHING = createMetrics([], { defaultMetrics: false });

async function textOf(summed: SummedMetrics): Promise<string> {
  return summed.sum(await NOTHING.snapshot()).text();
}

test('counters, histograms and most gauges add up; what must not does not', async () => {
  const summed = new SummedMetrics();
  summed.note('a', await aWorker(3, true).snapshot());
  summed.note('b', await aWorker(4, false).snapshot());
  const text = await textOf(summed);
  expect(text).toContain('halfway_things_total{kind="x"} 7\n');
  expect(text).toContain('halfway_open 7\n');
  expect(text).toContain('halfway_redis_up 0\n');
  expect(text).toContain('halfway_cluster_nodes 2\n');
  expect(text).toContain('halfway_dispatch_queue_depth 5\n');
  expect(text).toContain('halfway_wait_seconds_bucket{le="1"} 0\n');
  expect(text).toContain('halfway_wait_seconds_bucket{le="2"} 2\n');
  expect(text).toContain('halfway_wait_seconds_sum 3\n');
  expect(text).toContain('halfway_wait_seconds_count 2\n');
});

test('what the dead had counted stays, what they held does not', async () => {
  const summed = new SummedMetrics();
  for (const things of [3, 5]) {
    summed.note('a', await aWorker(things, true).snapshot());
    await summed.forget('a');
  }
  await summed.forget('never there');
  summed.note('a', await aWorker(1, true).snapshot());
  const text = await textOf(summed);
  expect(text).toContain('halfway_things_total{kind="x"} 9\n');
  expect(text).toContain('halfway_wait_seconds_count 3\n');
  expect(text).toContain('halfway_open 1\n');
});

test('valuesOf() gives one gauge of each worker', async () => {
  const summed = new SummedMetrics();
  summed.note('a', await aWorker(3, true).snapshot());
  summed.note('b', await aWorker(4, true).snapshot());
  expect(summed.valuesOf('halfway_open', {})).toEqual([3, 4]);
  expect(summed.valuesOf('halfway_things_total', { kind: 'y' })).toEqual([0, 0]);
});
