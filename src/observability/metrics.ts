import {
  AggregatorRegistry,
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
} from 'prom-client';
import { assert } from '../base/assert.ts';

/** One metric as plain data, as each folder lists its own in its `metrics.ts`. */
export interface MetricDefinition {
  /** With unit and suffix as Prometheus wants them: `halfway_…_seconds`, `…_bytes_total`. */
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
  /** Label sets that exist from the start at zero, so that a rate is there before the first event. */
  readonly values?: readonly Labels[];
  /** Upper bounds of a histogram, ascending. */
  readonly buckets?: readonly number[];
}

export type Labels = Readonly<Record<string, string>>;

export interface CounterMetric {
  inc(labels?: Labels, by?: number): void;
  /** For what is counted in plain fields on the data path: sets the total, which must not have shrunk. */
  setTotal(total: number, labels?: Labels): void;
  /** Forgets a series: of an entity that was deleted. */
  remove(labels: Labels): void;
}

export interface GaugeMetric {
  set(value: number, labels?: Labels): void;
  remove(labels: Labels): void;
  /** Forgets all series; for gauges that are written anew at each scrape. */
  reset(): void;
}

export interface HistogramMetric {
  observe(value: number, labels?: Labels): void;
}

export interface Metrics {
  /** The metric of that name; a name that is not in the lists, or of another kind, is a bug and throws. */
  counter(name: string): CounterMetric;
  gauge(name: string): GaugeMetric;
  histogram(name: string): HistogramMetric;
  /** `copy` is called before each scrape, to bring plain fields into the metrics. */
  onCollect(copy: () => void): void;
  /**
   * A label with at most `max` values: the first ones stand for themselves, others are `_other` and count in
   * `halfway_label_overflow_total`. `forget` gives the place of a deleted entity to the next one.
   */
  cappedLabel(max: number): CappedLabel;
  /** The scrape's text. */
  text(): Promise<string>;
  /** The same as data, for `addMetrics`. */
  snapshot(): Promise<MetricSnapshot>;
  readonly contentType: string;
}

export interface CappedLabel {
  of(name: string): string;
  forget(name: string): void;
}

/** The label value that stands for all that found no place. */
export const OTHER = '_other';

const OVERFLOW: MetricDefinition = {
  name: 'halfway_label_overflow_total',
  kind: 'counter',
  help: 'How often a name found no place among the labels and was counted as _other',
  values: [{}],
};

/** Gauges of prom-client with a counter's name, of which `promtool check metrics` complains. */
const MISNAMED = ['handles', 'requests', 'resources'].map(what => `nodejs_active_${what}_total`);

/** Makes metrics of plain lists. `defaultMetrics` adds those of the process and of Node. */
export function createMetrics(
  lists: readonly (readonly MetricDefinition[])[],
  options: { readonly defaultMetrics: boolean },
): Metrics {
  const registry = new Registry();
  if (options.defaultMetrics) {
    collectDefaultMetrics({ register: registry });
    for (const name of MISNAMED) registry.removeSingleMetric(name);
  }
  const counters = new Map<string, CounterMetric>();
  const gauges = new Map<string, GaugeMetric>();
  const histograms = new Map<string, HistogramMetric>();
  for (const definition of [...lists.flat(), OVERFLOW]) {
    const { name, kind } = definition;
    if (kind === 'counter') counters.set(name, makeCounter(definition, registry));
    else if (kind === 'gauge') gauges.set(name, makeGauge(definition, registry));
    else histograms.set(name, makeHistogram(definition, registry));
  }
  const copies: (() => void)[] = [];
  return {
    counter: name => found(counters, name),
    gauge: name => found(gauges, name),
    histogram: name => found(histograms, name),
    onCollect: copy => {
      copies.push(copy);
    },
    cappedLabel: max => cappedLabel(max, () => found(counters, OVERFLOW.name).inc()),
    text: () => {
      for (const copy of copies) copy();
      return registry.metrics();
    },
    snapshot: () => {
      for (const copy of copies) copy();
      return registry.getMetricsAsJSON();
    },
    contentType: registry.contentType,
  };
}

/** All metrics of a process at one moment; can be sent to another one. */
export type MetricSnapshot = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** How values of one series become one: `omit` leaves the metric out. */
export type Across = 'sum' | 'max' | 'min' | 'first' | 'average' | 'omit';

/**
 * One set of metrics out of several processes'. Series with the same labels are added up, but for the metrics in
 * `across`, and for those of Node, which prom-client knows.
 */
export function addMetrics(
  snapshots: readonly MetricSnapshot[],
  across: Readonly<Record<string, Across>>,
): AddedMetrics {
  const marked = snapshots.map(snapshot =>
    snapshot.map(metric => ({
      ...metric,
      aggregator: across[metric.name] ?? metric.aggregator,
    })),
  );
  const registry = AggregatorRegistry.aggregate(marked);
  return {
    text: () => registry.metrics(),
    snapshot: () => registry.getMetricsAsJSON(),
    contentType: registry.contentType,
  };
}

export type AddedMetrics = Pick<Metrics, 'text' | 'snapshot' | 'contentType'>;

function makeCounter(definition: MetricDefinition, registry: Registry): CounterMetric {
  const counter = new Counter(shape(definition, registry));
  for (const labels of definition.values ?? []) counter.inc({ ...labels }, 0);
  return {
    inc: (labels = {}, by = 1) => counter.inc({ ...labels }, by),
    setTotal: (total, labels = {}) => {
      // prom-client has no way to set a counter; this is how to, for one series.
      counter.remove({ ...labels });
      counter.inc({ ...labels }, total);
    },
    remove: labels => counter.remove({ ...labels }),
  };
}

function makeGauge(definition: MetricDefinition, registry: Registry): GaugeMetric {
  const gauge = new Gauge(shape(definition, registry));
  for (const labels of definition.values ?? []) gauge.set({ ...labels }, 0);
  return {
    set: (value, labels = {}) => gauge.set({ ...labels }, value),
    remove: labels => gauge.remove({ ...labels }),
    reset: () => gauge.reset(),
  };
}

function makeHistogram(definition: MetricDefinition, registry: Registry): HistogramMetric {
  const { buckets } = definition;
  const settings = shape(definition, registry);
  const histogram = new Histogram(
    buckets === undefined ? settings : { ...settings, buckets: [...buckets] },
  );
  for (const labels of definition.values ?? []) histogram.zero({ ...labels });
  return { observe: (value, labels = {}) => histogram.observe({ ...labels }, value) };
}

function shape({ name, help, labels = [] }: MetricDefinition, registry: Registry) {
  return { name, help, labelNames: [...labels], registers: [registry] };
}

function cappedLabel(max: number, onOverflow: () => void): CappedLabel {
  const known = new Set<string>();
  return {
    of: name => {
      if (known.has(name)) return name;
      if (known.size < max) {
        known.add(name);
        return name;
      }
      onOverflow();
      return OTHER;
    },
    forget: name => {
      known.delete(name);
    },
  };
}

function found<Metric>(metrics: ReadonlyMap<string, Metric>, name: string): Metric {
  const metric = metrics.get(name);
  assert(metric !== undefined, `${name} is in the lists of metrics`);
  return metric;
}
