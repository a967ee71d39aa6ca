import { systemClock, type Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import type { Config } from './config/options.ts';
import { startServer, type RunningNode } from './server.ts';
import type { ProcessLine } from './workers/line.ts';
import { RemoteCoordinator } from './workers/remote-coordinator.ts';
import { RemoteStore } from './workers/remote-store.ts';
import { serveRpc } from './workers/rpc.ts';
import { WORKER_SERVICE, type WorkerProcedures } from './workers/worker-protocol.ts';

export interface WorkerDeps {
  readonly clock?: Clock;
  /** Opens the log of a worker with that configuration. */
  readonly openLog: (config: Config) => Promise<Logger>;
}

/**
 * The life of a worker, from its parent's first word to its end: true when it drained. A worker whose parent is gone
 * drains, too, and leaves the port to whoever comes next; one that has not started ends.
 */
export async function runAsWorker(line: ProcessLine, deps: WorkerDeps): Promise<boolean> {
  const { clock = systemClock } = deps;
  let log: Logger | undefined;
  let node: RunningNode | undefined;
  const started = (): RunningNode => {
    if (node === undefined) throw new Error('The worker has not started yet');
    return node;
  };
  const reportBug = (bug: unknown): void => log?.error({ err: bug }, 'bug in a worker');
  return new Promise(resolve => {
    const drain = (how: { readonly closePort: boolean }): void => {
      if (node === undefined) {
        resolve(false);
        return;
      }
      node.drain(how).then(
        () => resolve(true),
        (error: unknown) => {
          log?.error({ err: error }, 'drain failed');
          resolve(false);
        },
      );
    };
    const procedures: WorkerProcedures = {
      start: async ({ config, hasParentCoordinator, store, takesConnections }) => {
        log = await deps.openLog(config);
        node = await startServer(config, {
          log,
          clock,
          worker: {
            ...(hasParentCoordinator ? { coordinator: new RemoteCoordinator(line, clock) } : {}),
            ...(store === undefined ? {} : { store: new RemoteStore(line, store, clock) }),
            ...(takesConnections ? { connections: (take): void => line.onConnection(take) } : {}),
          },
        });
        return { port: node.port };
      },
      readiness: async () => {
        const { ready, reasons } = started().readiness();
        return Promise.resolve({ ready, reasons });
      },
      status: async () => Promise.resolve(started().status()),
      metrics: () => started().metrics(),
      manage: request => started().manage(request),
      reloadCertificates: () => started().reloadCertificates(),
      drain: async () => {
        drain({ closePort: false });
        return Promise.resolve();
      },
    };
    serveRpc(line, WORKER_SERVICE, procedures, reportBug);
    line.onUpChange(() => {
      log?.error({ event: 'ParentGone' }, 'the parent process is gone: draining');
      drain({ closePort: true });
    });
  });
}
