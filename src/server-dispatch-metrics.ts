import { FINAL_STATES } from './dispatch/run-state.ts';
import type { MetricDefinition, Metrics } from './observability/metrics.ts';
import type { ApiTraffic } from './transports/api-routes.ts';
import type { DispatchSample } from './server-dispatch-sample.ts';

const WAIT_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3_600];
const ANSWER_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

/** Gauges say what is in the records: in a cluster every node says the same, so they are not to be added up. */
export const DISPATCH_METRICS: readonly MetricDefinition[] = [
  {
    name: 'halfway_dispatch_queue_depth',
    kind: 'gauge',
    help: 'Runs that wait, by whom they wait for',
    labels: ['environment', 'target'],
  },
  {
    name: 'halfway_dispatch_queue_oldest_age_seconds',
    kind: 'gauge',
    help: 'How long the oldest of these has waited',
    labels: ['environment', 'target'],
  },
  {
    name: 'halfway_dispatch_deepest_queue',
    kind: 'gauge',
    help: 'Runs that wait in the queue that has most of them; a queue takes 500',
    labels: ['environment', 'target'],
  },
  {
    name: 'halfway_dispatch_runs',
    kind: 'gauge',
    help: 'Runs in the records, by state',
    labels: ['environment', 'state'],
  },
  {
    name: 'halfway_dispatch_machines',
    kind: 'gauge',
    help: 'Registered machines, by whether they take runs and whether they are there',
    labels: ['environment', 'state', 'presence'],
  },
  {
    name: 'halfway_dispatch_records_durable',
    kind: 'gauge',
    help: '1 while all that was accepted is on a disk when it is answered',
  },
  {
    name: 'halfway_dispatch_sample_failures_total',
    kind: 'counter',
    help: 'Times that the gauges of job dispatch could not be read from the records',
    values: [{}],
  },
  {
    name: 'halfway_dispatch_runs_ended_total',
    kind: 'counter',
    help: 'Runs that ended here, by how and with what code',
    labels: ['state', 'code'],
    values: [...FINAL_STATES].map(state => ({ state, code: '' })),
  },
  {
    name: 'halfway_dispatch_leases_lost_total',
    kind: 'counter',
    help: 'Runs that started and whose machine was not heard of again in time',
    values: [{}],
  },
  {
    name: 'halfway_dispatch_offers_total',
    kind: 'counter',
    help: 'Offers of runs to machines, by what became of them',
    labels: ['outcome'],
    values: ['accepted', 'refused', 'unanswered', 'overtaken'].map(outcome => ({ outcome })),
  },
  {
    name: 'halfway_dispatch_latency_seconds',
    kind: 'histogram',
    help: 'From the moment a run was queued until a machine accepted it',
    buckets: WAIT_SECONDS,
  },
  {
    name: 'halfway_dispatch_api_requests_total',
    kind: 'counter',
    help: 'Requests to the REST interface of job dispatch, by what they are about',
    labels: ['route', 'status'],
  },
  {
    name: 'halfway_dispatch_api_request_seconds',
    kind: 'histogram',
    help: 'How long these took, without those that wait for something to happen',
    labels: ['route'],
    buckets: ANSWER_SECONDS,
  },
  {
    name: 'halfway_dispatch_api_waiters',
    kind: 'gauge',
    help: 'Requests that are held until something happens',
  },
  {
    name: 'halfway_dispatch_api_open_requests',
    kind: 'gauge',
    help: 'Requests that were not answered yet, with those that are held',
  },
  {
    name: 'halfway_dispatch_api_held_bytes',
    kind: 'gauge',
    help: 'Bytes of bodies of requests that are held in memory',
  },
  {
    name: 'halfway_dispatch_api_refused_total',
    kind: 'counter',
    help: 'Requests refused because too many were open, or too many bytes held',
    values: [{}],
  },
];

/** What the gauges are set from. */
export interface DispatchGauges {
  readonly sample: DispatchSample;
  readonly waiters: number;
  /** Undefined before the routes are there. */
  readonly traffic: Pick<ApiTraffic, 'requests' | 'heldBytes' | 'refused'> | undefined;
  readonly isDurable: boolean;
}

export function collectDispatch(metrics: Metrics, now: DispatchGauges): void {
  const { sample, waiters, traffic, isDurable } = now;
  metrics.gauge('halfway_dispatch_api_waiters').set(waiters);
  metrics.gauge('halfway_dispatch_api_open_requests').set(traffic?.requests ?? 0);
  metrics.gauge('halfway_dispatch_api_held_bytes').set(traffic?.heldBytes ?? 0);
  metrics.counter('halfway_dispatch_api_refused_total').setTotal(traffic?.refused ?? 0);
  metrics.gauge('halfway_dispatch_records_durable').set(isDurable ? 1 : 0);
  metrics.counter('halfway_dispatch_sample_failures_total').setTotal(sample.failures);
  for (const [name, values] of Object.entries(sample.gauges)) {
    const gauge = metrics.gauge(name);
    // What is there no more has no series.
    gauge.reset();
    for (const { labels, value } of values) gauge.set(value, labels);
  }
}
