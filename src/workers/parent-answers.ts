import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Config } from '../config/options.ts';
import { apiError, type ApiAnswer } from '../management/api-answers.ts';
import type { ApiRequest } from '../management/api-request.ts';
import { createMetrics, type Metrics } from '../observability/metrics.ts';
import type { Readiness } from '../transports/health.ts';
import type { StatusReport, WorkerStatus } from '../transports/status-report.ts';
import { VERSION } from '../version.ts';
import { mergeStatus } from './merge-status.ts';
import { PARENT_METRICS } from './metrics.ts';
import { RpcError } from './rpc.ts';
import type { SummedMetrics } from './sum-metrics.ts';
import type { Worker, WorkerPool } from './worker-pool.ts';

/** How long a worker may take to answer for the admin port. */
const ANSWER_TIMEOUT_MS = 3_000;
const MANAGE_TIMEOUT_MS = 12_000;

/** What the one admin port says for all workers. */
export class ParentAnswers {
  readonly #pool: WorkerPool;
  readonly #summed: SummedMetrics;
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #startedAtMs: number;
  readonly #metrics = createMetrics([PARENT_METRICS], { defaultMetrics: true });
  isDraining = false;

  constructor(deps: {
    readonly pool: WorkerPool;
    readonly summed: SummedMetrics;
    readonly config: Config;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#pool = deps.pool;
    this.#summed = deps.summed;
    this.#config = deps.config;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#startedAtMs = deps.clock.nowMs();
  }

  readiness(): Readiness {
    const count = this.#pool.workers.length;
    const ready = this.#pool.ready.length;
    // Half of them carry the load for the time that a restart takes; fewer do not.
    const isEnough = ready >= Math.ceil(count / 2);
    const reasons = this.#pool.workers.flatMap(worker => worker.reasons);
    return {
      ready: isEnough && !this.isDraining,
      reasons: [
        ...(this.isDraining ? ['draining'] : []),
        ...(ready === count ? [] : [`degraded: ${ready} of ${count} workers are ready`]),
        ...new Set(reasons.filter(reason => reason !== 'draining')),
      ],
    };
  }

  async status(): Promise<StatusReport> {
    const { workers } = this.#pool;
    const reports = await Promise.all(
      workers.map(async ({ rpc }) => rpc?.call('status', [], ANSWER_TIMEOUT_MS).catch(nothing)),
    );
    const first = {
      node: this.#config.nodeId,
      version: VERSION,
      uptimeSeconds: (this.#clock.nowMs() - this.#startedAtMs) / 1000,
      ...this.readiness(),
    };
    const known = reports.filter(report => report !== undefined);
    return {
      ...mergeStatus(first, known),
      workers: workers.map((worker, i) => workerStatus(worker, reports[i])),
    };
  }

  async metrics(): Promise<{ readonly text: string; readonly contentType: string }> {
    const { workers } = this.#pool;
    await Promise.all(
      workers.map(async worker => {
        const { process } = worker;
        const snapshot = await worker.rpc?.call('metrics', [], ANSWER_TIMEOUT_MS).catch(nothing);
        // One that ended meanwhile has been forgotten already.
        const isSame = worker.process === process;
        if (snapshot !== undefined && isSame) this.#summed.note(worker.name, snapshot);
      }),
    );
    this.#collect(this.#metrics);
    const sum = this.#summed.sum(await this.#metrics.snapshot());
    return { text: await sum.text(), contentType: sum.contentType };
  }

  /** Done by one of the workers; the others learn of it from the store. */
  async manage(request: ApiRequest): Promise<ApiAnswer> {
    const { ready, workers } = this.#pool;
    const rpc = (ready[0] ?? workers.find(({ state }) => state === 'running'))?.rpc;
    if (rpc === undefined) {
      return apiError('StoreUnavailable', 'No worker is there to do it; try again');
    }
    try {
      return await rpc.call('manage', [request], MANAGE_TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      this.#log.warn({ err: error }, 'worker did not answer for the management API');
      const message = `${error.message}. A change may have taken effect all the same: look before trying again`;
      return apiError('StoreUnavailable', message);
    }
  }

  #collect(metrics: Metrics): void {
    const { ready, workers } = this.#pool;
    metrics.gauge('halfway_ready').set(this.readiness().ready ? 1 : 0);
    metrics.gauge('halfway_workers').set(ready.length, { state: 'ready' });
    metrics.gauge('halfway_workers').set(workers.length - ready.length, { state: 'not_ready' });
    const restarts = workers.reduce((total, worker) => total + worker.restarts, 0);
    metrics.counter('halfway_worker_restarts_total').setTotal(restarts);
    // What is elsewhere to one worker may be held by another: each knows the sum of all.
    const here = this.#summed.valuesOf('halfway_cluster_listeners', { where: 'here' });
    const elsewhere = this.#summed.valuesOf('halfway_cluster_listeners', { where: 'elsewhere' });
    const own = here.reduce((total, each) => total + each, 0);
    const all = Math.max(0, ...here.map((each, i) => each + (elsewhere[i] ?? 0)));
    const listeners = metrics.gauge('halfway_cluster_listeners');
    listeners.set(own, { where: 'here' });
    listeners.set(Math.max(0, all - own), { where: 'elsewhere' });
  }
}

function workerStatus(worker: Worker, report: StatusReport | undefined): WorkerStatus {
  const { name, state, process, isReady, restarts } = worker;
  const known = { node: name, state, ready: isReady, restarts };
  const pid = process?.pid === undefined ? {} : { pid: process.pid };
  if (report === undefined) return { ...known, ...pid };
  const { uptimeSeconds, listeners, senders } = report;
  return { ...known, ...pid, uptimeSeconds, listeners, senders };
}

/** One that does not answer is left out: its state says so. */
function nothing(): undefined {
  return undefined;
}
