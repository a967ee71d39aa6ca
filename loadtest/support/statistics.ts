import { build } from 'hdr-histogram-js';
import type { Counters } from './generator.ts';

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 1 ? middle : middle - 1];
  return upper === undefined || lower === undefined ? Number.NaN : (upper + lower) / 2;
}

/** How far the extremes lie from the median, as a share of it: what a ratio below that means nothing. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values) / 2;
}

export interface Percentiles {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly count: number;
}

/** Percentiles of the round trips that a generator counted. */
export function percentilesOf(latencies: Counters['latencies']): Percentiles {
  const histogram = build({ numberOfSignificantValueDigits: 3 });
  for (const [ns, count] of latencies) {
    histogram.recordValueWithCount(Math.max(1, Math.round(ns / 1_000)), count);
  }
  return {
    p50Ms: histogram.getValueAtPercentile(50) / 1_000,
    p99Ms: histogram.getValueAtPercentile(99) / 1_000,
    maxMs: histogram.maxValue / 1_000,
    count: histogram.totalCount,
  };
}
