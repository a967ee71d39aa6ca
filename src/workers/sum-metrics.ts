import {
  addMetrics,
  type Across,
  type AddedMetrics,
  type MetricSnapshot,
} from '../observability/metrics.ts';

/** What adding up would make wrong. Whatever the parent counts itself comes first. */
const ACROSS: Readonly<Record<string, Across>> = {
  halfway_ready: 'first',
  halfway_build_info: 'first',
  halfway_cluster_listeners: 'first',
  halfway_hybrid_connections: 'max',
  halfway_data_plane_native: 'min',
  halfway_redis_up: 'min',
  halfway_cluster_degraded: 'max',
  halfway_cluster_lease_age_seconds: 'max',
  halfway_cluster_nodes: 'max',
  halfway_cluster_feed_lag_changes: 'max',
  // Of records that all share.
  halfway_dispatch_queue_depth: 'max',
  halfway_dispatch_deepest_queue: 'max',
  halfway_dispatch_queue_oldest_age_seconds: 'max',
  halfway_dispatch_runs: 'max',
  halfway_dispatch_machines: 'max',
  halfway_dispatch_records_durable: 'min',
  process_start_time_seconds: 'min',
};

/**
 * The metrics of all workers as one. What processes that are gone had counted when they were last asked stays in, so
 * that no counter goes back.
 */
export class SummedMetrics {
  readonly #last = new Map<string, MetricSnapshot>();
  #past: MetricSnapshot = [];

  /** What a worker's process counts now. */
  note(worker: string, snapshot: MetricSnapshot): void {
    this.#last.set(worker, snapshot);
  }

  /** Its process is gone. */
  async forget(worker: string): Promise<void> {
    const last = this.#last.get(worker);
    if (last === undefined) return;
    this.#last.delete(worker);
    const counted = last.filter(({ type }) => KEPT.has(String(type)));
    this.#past = await addMetrics([this.#past, counted], ACROSS).snapshot();
  }

  /** `own`: the parent's. */
  sum(own: MetricSnapshot): AddedMetrics {
    return addMetrics([own, ...this.#last.values(), this.#past], ACROSS);
  }

  /** The value of one gauge of each worker. */
  valuesOf(name: string, labels: Readonly<Record<string, string>>): readonly number[] {
    return [...this.#last.values()].map(snapshot => {
      const values = snapshot.find(metric => metric.name === name)?.values ?? [];
      const found = values.find(value =>
        Object.entries(labels).every(([label, text]) => value.labels[label] === text),
      );
      return found?.value ?? 0;
    });
  }
}

const KEPT: ReadonlySet<string> = new Set(['counter', 'histogram']);
