import { describe, expect, test } from 'vitest';
import { createMetrics, OTHER, type MetricDefinition } from '../../src/observability/metrics.ts';

const LIST: readonly MetricDefinition[] = [
  {
    name: 'halfway_refusals_total',
    kind: 'counter',
    help: 'Refusals',
    labels: ['reason'],
    values: [{ reason: 'no-listener' }, { reason: 'draining' }],
  },
  { name: 'halfway_ready', kind: 'gauge', help: 'Ready' },
  {
    name: 'halfway_wait_seconds',
    kind: 'histogram',
    help: 'Waits',
    labels: ['kind'],
    values: [{ kind: 'http' }],
    buckets: [0.1, 1],
  },
];

const plain = () => createMetrics([LIST], { defaultMetrics: false });

describe('createMetrics()', () => {
  test('starts closed label sets at zero', async () => {
    const text = await plain().text();
    expect(text).toContain('halfway_refusals_total{reason="draining"} 0');
    expect(text).toContain('halfway_wait_seconds_bucket{le="+Inf",kind="http"} 0');
    expect(text).toContain('halfway_label_overflow_total 0');
  });

  test('counts, sets and observes under the names of the lists', async () => {
    const metrics = plain();
    metrics.counter('halfway_refusals_total').inc({ reason: 'draining' });
    metrics.counter('halfway_refusals_total').inc({ reason: 'draining' }, 2);
    metrics.gauge('halfway_ready').set(1);
    metrics.histogram('halfway_wait_seconds').observe(0.5, { kind: 'ws' });
    const text = await metrics.text();
    expect(text).toContain('halfway_refusals_total{reason="draining"} 3');
    expect(text).toContain('halfway_ready 1');
    expect(text).toContain('halfway_wait_seconds_bucket{le="0.1",kind="ws"} 0');
    expect(text).toContain('halfway_wait_seconds_bucket{le="1",kind="ws"} 1');
  });

  test('copies plain fields at each scrape', async () => {
    const metrics = plain();
    const totals = { draining: 7 };
    metrics.onCollect(() => {
      const counter = metrics.counter('halfway_refusals_total');
      counter.setTotal(totals.draining, { reason: 'draining' });
    });
    expect(await metrics.text()).toContain('{reason="draining"} 7');
    totals.draining = 9;
    const text = await metrics.text();
    expect(text).toContain('{reason="draining"} 9');
    expect(text).toContain('{reason="no-listener"} 0');
  });

  test('forgets the series of what was deleted', async () => {
    const metrics = plain();
    metrics.counter('halfway_refusals_total').remove({ reason: 'draining' });
    expect(await metrics.text()).not.toContain('draining');
  });

  test('throws for a name that is in no list, or of another kind', () => {
    expect(() => plain().counter('halfway_nothing_total')).toThrow('halfway_nothing_total');
    expect(() => plain().counter('halfway_ready')).toThrow('halfway_ready');
  });

  test('adds what Node knows of itself, without the gauges that are named like counters', async () => {
    const text = await createMetrics([], { defaultMetrics: true }).text();
    expect(text).toContain('process_cpu_seconds_total');
    expect(text).toContain('nodejs_eventloop_lag_p99_seconds');
    expect(text).not.toMatch(/nodejs_active_\w+_total/);
  });

  test('has the content type that Prometheus negotiates', () => {
    expect(plain().contentType).toMatch(/^text\/plain; version=0\.0\.4/);
  });
});

describe('cappedLabel()', () => {
  test('gives the first names themselves, the others to _other, and counts these', async () => {
    const metrics = plain();
    const label = metrics.cappedLabel(2);
    expect(['a', 'b', 'c', 'a', 'c'].map(name => label.of(name))).toEqual([
      'a',
      'b',
      OTHER,
      'a',
      OTHER,
    ]);
    expect(await metrics.text()).toContain('halfway_label_overflow_total 2');
  });

  test('gives the place of a forgotten name to the next one', () => {
    const label = plain().cappedLabel(1);
    label.of('a');
    label.forget('a');
    expect([label.of('b'), label.of('a')]).toEqual(['b', OTHER]);
  });
});
