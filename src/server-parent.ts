import { randomBytes } from 'node:crypto';
import { Randomness } from './auth/randomness.ts';
import { systemClock, type Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { MemoryCoordinator } from './cluster/memory-coordinator.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import { apiError, type ApiAnswer } from './management/api-answers.ts';
import type { ApiRequest } from './management/api-request.ts';
import { drainAnswer } from './management/drain-request.ts';
import { createMetrics } from './observability/metrics.ts';
import { openStore } from './server-management.ts';
import { adminPortTaken, publicPortTaken } from './server.ts';
import { StoreError } from './store/relay-store.ts';
import { openAdminPort, type AdminPort } from './transports/admin-port.ts';
import type { Readiness } from './transports/health.ts';
import { findSharedPort } from './transports/public-port.ts';
import { statusPage } from './transports/status-page.ts';
import type { StatusReport, WorkerStatus } from './transports/status-report.ts';
import { VERSION } from './version.ts';
import { dealConnections, type ConnectionDealer } from './workers/connection-dealer.ts';
import { forkWorker } from './workers/fork-worker.ts';
import { mergeStatus } from './workers/merge-status.ts';
import { PARENT_METRICS } from './workers/metrics.ts';
import { serveCoordinator } from './workers/remote-coordinator.ts';
import { SharedStore } from './workers/remote-store.ts';
import { RpcError } from './workers/rpc.ts';
import { SummedMetrics } from './workers/sum-metrics.ts';
import { WorkerPool, type Worker } from './workers/worker-pool.ts';
import { workerSpecs } from './workers/worker-specs.ts';

export interface RunningParent {
  readonly port: number;
  readonly adminPort: number;
  readonly tls: boolean;
  /** Gentle, on all workers at once. Ends with `stop`. */
  drain(): Promise<void>;
  /** Kills all workers. Safe to call twice. */
  stop(): Promise<void>;
  reloadCertificates(): Promise<void>;
  /** Rejects when a worker does not stay up. */
  readonly failed: Promise<never>;
}

export interface ParentDeps {
  readonly log: Logger;
  readonly clock?: Clock;
  readonly onDrainRequest?: () => void;
}

/** How long a worker may take to answer for the admin port. */
const ANSWER_TIMEOUT_MS = 3_000;
const MANAGE_TIMEOUT_MS = 12_000;
/** What workers may take to drain beyond the times that are set; then they are killed. */
const DRAIN_EXTRA_MS = 10_000;
const MESH_SECRET_BYTES = 32;

/**
 * The parent of `count` workers on this machine: they share the public port and are a relay among themselves; here are
 * their directory (unless it is in Redis), their store and the one admin port. Resolves when all accept. Rejects with
 * `StartError`.
 */
export async function startParent(
  config: Config,
  count: number,
  deps: ParentDeps,
): Promise<RunningParent> {
  const { log, clock = systemClock } = deps;
  const startedAtMs = clock.nowMs();
  const random = new Randomness();
  const reportBug = (bug: unknown): void => log.error({ err: bug }, 'bug in the parent');
  const tls = config.tlsCert !== undefined && config.tlsKey !== undefined;
  const coordinator = config.redis === undefined ? new MemoryCoordinator(clock) : undefined;
  const store = config.redis === undefined ? await openSharedStore(config, clock) : undefined;

  let dealer: ConnectionDealer | undefined;
  const takers = (): readonly Worker[] => pool.workers.filter(({ state }) => state === 'running');
  const openPublicPort = async (): Promise<number | undefined> => {
    if (!tls) return findSharedPort(config);
    try {
      dealer = await dealConnections(config, {
        takers: () => takers().flatMap(({ process }) => process?.line ?? []),
        onError: error => log.error({ err: error }, 'cannot accept'),
      });
      return dealer.port;
    } catch {
      return undefined;
    }
  };

  const metrics = createMetrics([PARENT_METRICS], { defaultMetrics: true });
  const summed = new SummedMetrics();
  let fail: ((error: StartError) => void) | undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    fail = reject;
  });
  // Whoever runs the parent waits for it; until then it must not end the process.
  failed.catch(() => {});

  const port = await openPublicPort();
  if (port === undefined) {
    store?.close();
    throw publicPortTaken(config);
  }
  const pool = new WorkerPool({
    clock,
    log,
    jitter: () => random.below(1_000) / 1_000,
    fork: forkWorker,
    specs: workerSpecs({ ...config, port }, count, {
      meshSecret: randomBytes(MESH_SECRET_BYTES).toString('base64url'),
      store: store?.store,
    }),
    serve: ({ line }) => {
      store?.serve(line, reportBug);
      return coordinator === undefined ? () => {} : serveCoordinator(line, coordinator, reportBug);
    },
    onEnd: name => {
      summed.forget(name).catch(reportBug);
    },
    onHopeless: message => fail?.(new StartError(message)),
  });

  let isDraining = false;
  const readiness = (): Readiness => {
    const ready = pool.ready.length;
    // Half of them carry the load for the time that a restart takes; fewer do not.
    const isEnough = ready >= Math.ceil(count / 2);
    const reasons = pool.workers.flatMap(worker => worker.reasons);
    return {
      ready: isEnough && !isDraining,
      reasons: [
        ...(isDraining ? ['draining'] : []),
        ...(ready === count ? [] : [`degraded: ${ready} of ${count} workers are ready`]),
        ...new Set(reasons.filter(reason => reason !== 'draining')),
      ],
    };
  };

  const status = async (): Promise<StatusReport> => {
    const reports = await Promise.all(
      pool.workers.map(async ({ rpc }) =>
        rpc?.call('status', [], ANSWER_TIMEOUT_MS).catch(nothing),
      ),
    );
    const { ready, reasons } = readiness();
    const first = {
      node: config.nodeId,
      version: VERSION,
      uptimeSeconds: (clock.nowMs() - startedAtMs) / 1000,
      ready,
      reasons,
    };
    const known = reports.filter(report => report !== undefined);
    return {
      ...mergeStatus(first, known),
      workers: pool.workers.map((worker, i) => workerStatus(worker, reports[i])),
    };
  };

  const scrape = async (): Promise<{ readonly text: string; readonly contentType: string }> => {
    await Promise.all(
      pool.workers.map(async ({ name, rpc, process }) => {
        const snapshot = await rpc?.call('metrics', [], ANSWER_TIMEOUT_MS).catch(nothing);
        const isSame = pool.workers.some(each => each.name === name && each.process === process);
        if (snapshot !== undefined && isSame) summed.note(name, snapshot);
      }),
    );
    metrics.gauge('halfway_ready').set(readiness().ready ? 1 : 0);
    metrics.gauge('halfway_workers').set(pool.ready.length, { state: 'ready' });
    metrics.gauge('halfway_workers').set(count - pool.ready.length, { state: 'not_ready' });
    const restarts = pool.workers.reduce((total, worker) => total + worker.restarts, 0);
    metrics.counter('halfway_worker_restarts_total').setTotal(restarts);
    const here = summed.valuesOf('halfway_cluster_listeners', { where: 'here' });
    const elsewhere = summed.valuesOf('halfway_cluster_listeners', { where: 'elsewhere' });
    const own = here.reduce((total, each) => total + each, 0);
    const all = Math.max(0, ...here.map((each, i) => each + (elsewhere[i] ?? 0)));
    const listeners = metrics.gauge('halfway_cluster_listeners');
    listeners.set(own, { where: 'here' });
    listeners.set(Math.max(0, all - own), { where: 'elsewhere' });
    const sum = summed.sum(await metrics.snapshot());
    return { text: await sum.text(), contentType: sum.contentType };
  };

  const manage = async (request: ApiRequest): Promise<ApiAnswer> => {
    const drained = drainAnswer(request, config, deps.onDrainRequest);
    if (drained !== undefined) return drained;
    const rpc = (pool.ready[0] ?? pool.workers.find(each => each.state === 'running'))?.rpc;
    const absent = apiError('StoreUnavailable', 'No worker is there to do it; try again');
    if (rpc === undefined) return absent;
    try {
      return await rpc.call('manage', [request], MANAGE_TIMEOUT_MS);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      log.warn({ err: error }, 'worker did not answer for the management API');
      const message = `${error.message}. A change may have taken effect all the same: look before trying again`;
      return apiError('StoreUnavailable', message);
    }
  };

  let adminPort: AdminPort | undefined;
  let isStopped = false;
  const stop = async (): Promise<void> => {
    if (isStopped) return;
    isStopped = true;
    pool.stop();
    dealer?.close();
    adminPort?.close();
    store?.close();
    return Promise.resolve();
  };
  try {
    adminPort = await openAdminPort({
      host: config.adminHost,
      port: config.adminPort,
      token: config.adminToken,
      readiness,
      metrics: scrape,
      status: async () => {
        const report = await status();
        return { html: statusPage(report), json: report };
      },
      manage,
      reportBug: bug => log.error({ err: bug }, 'admin port failed'),
    });
    if (adminPort === undefined) throw adminPortTaken(config);
    await Promise.race([pool.start(), failed]);
  } catch (error) {
    await stop();
    // A worker has said what is wrong: those are words for the operator.
    if (!(error instanceof RpcError) || error.fault === undefined) throw error;
    throw new StartError(error.message, { cause: error });
  }

  return {
    port,
    adminPort: adminPort.port,
    tls,
    failed,
    stop,
    async drain() {
      if (isDraining) return;
      isDraining = true;
      const patienceMs = config.drainDelayMs + config.drainTimeoutMs + DRAIN_EXTRA_MS;
      const cancel = clock.after(patienceMs, () => {
        log.error({ patienceMs }, 'workers do not end: killing them');
        pool.stop();
      });
      await pool.drain();
      cancel();
      await stop();
    },
    async reloadCertificates() {
      await Promise.all(
        takers().map(async ({ rpc }) => rpc?.call('reloadCertificates', [], ANSWER_TIMEOUT_MS)),
      );
    },
  };
}

async function openSharedStore(config: Config, clock: Clock): Promise<SharedStore> {
  try {
    return new SharedStore(await openStore(config.data, clock), clock);
  } catch (error) {
    if (error instanceof StoreError) throw new StartError(error.message, { cause: error });
    throw error;
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
