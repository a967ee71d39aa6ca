import { randomBytes } from 'node:crypto';
import { Randomness } from './auth/randomness.ts';
import { systemClock, type Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { MemoryCoordinator } from './cluster/memory-coordinator.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import type { ApiAnswer } from './management/api-answers.ts';
import type { ApiRequest } from './management/api-request.ts';
import { drainAnswer } from './management/drain-request.ts';
import { openStore } from './server-management.ts';
import { adminPortTaken, publicPortTaken } from './server.ts';
import { StoreError } from './store/relay-store.ts';
import { openAdminPort, type AdminPort } from './transports/admin-port.ts';
import { findSharedPort } from './transports/public-port.ts';
import { statusPage } from './transports/status-page.ts';
import { dealConnections, type ConnectionDealer } from './workers/connection-dealer.ts';
import { forkWorker } from './workers/fork-worker.ts';
import { ParentAnswers } from './workers/parent-answers.ts';
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

/** How long a worker may take to read its certificate again. */
const RELOAD_TIMEOUT_MS = 5_000;
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

  const answers = new ParentAnswers({ pool, summed, config, clock, log });
  const manage = async (request: ApiRequest): Promise<ApiAnswer> =>
    drainAnswer(request, config, deps.onDrainRequest) ?? answers.manage(request);

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
      readiness: () => answers.readiness(),
      metrics: () => answers.metrics(),
      status: async () => {
        const report = await answers.status();
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
      if (answers.isDraining) return;
      answers.isDraining = true;
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
        takers().map(async ({ rpc }) => rpc?.call('reloadCertificates', [], RELOAD_TIMEOUT_MS)),
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
