import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { DISPATCH_METRICS } from '../../src/server-dispatch-metrics.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy');

/** Names that a metric has in Prometheus, and its labels. */
const series = new Map(
  DISPATCH_METRICS.flatMap(({ name, kind, labels = [] }) =>
    kind === 'histogram'
      ? [
          [`${name}_bucket`, [...labels, 'le']] as const,
          [`${name}_sum`, labels] as const,
          [`${name}_count`, labels] as const,
        ]
      : [[name, labels] as const],
  ),
);

/** All texts under a key, however deep. */
function valuesOf(key: string, value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) =>
    name === key && typeof inner === 'string' ? [inner] : valuesOf(key, inner),
  );
}

const expressions = [
  ...valuesOf(
    'expr',
    JSON.parse(readFileSync(join(DEPLOY, 'grafana-dispatch.json'), 'utf8')) as unknown,
  ),
  ...valuesOf('expr', parse(readFileSync(join(DEPLOY, 'prometheus-dispatch.yml'), 'utf8'))),
];

test('there are expressions of a dashboard and of alerts', () => {
  expect(expressions.length).toBeGreaterThan(20);
});

test.each(expressions)('%s asks for metrics and labels that there are', expression => {
  const asked = [...expression.matchAll(/(halfway_\w+)(?:\{([^}]*)\})?/g)];
  expect(asked).not.toEqual([]);
  const known = new Set<string>();
  for (const [, name = '', selectors = ''] of asked) {
    expect([...series.keys()]).toContain(name);
    const labels = series.get(name) ?? [];
    for (const label of labels) known.add(label);
    for (const [, label = ''] of selectors.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) {
      expect(labels, `${name} has ${label}`).toContain(label);
    }
  }
  for (const [, grouped = ''] of expression.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)) {
    for (const label of grouped.split(/,\s*/)) expect([...known]).toContain(label);
  }
});

test('every metric of job dispatch that people look at is on the dashboard or in an alert', () => {
  const seen = expressions.join('\n');
  const unseen = [...series.keys()].filter(name => !seen.includes(name));
  expect(unseen).toEqual([
    'halfway_dispatch_sample_failures_total',
    'halfway_dispatch_latency_seconds_sum',
    'halfway_dispatch_latency_seconds_count',
    'halfway_dispatch_api_request_seconds_sum',
    'halfway_dispatch_api_request_seconds_count',
  ]);
});
