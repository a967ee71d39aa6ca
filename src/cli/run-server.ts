import { availableParallelism } from 'node:os';
import type { Config } from '../config/options.ts';
import { EXIT, type ExitCode } from './command-error.ts';
import { wantsColour, type CommandContext, type CommandLog } from './context.ts';

export interface RunOptions {
  readonly config: Config;
  readonly warnings: readonly string[];
  /** Called once, when the ports accept and the log has said so. */
  readonly onListening?: (ports: { readonly port: number; readonly adminPort: number }) => void;
}

/**
 * Starts the server and runs it until a signal. SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reads the
 * certificates again. What nobody caught is logged and ends the process: its state cannot be trusted any more.
 */
export async function runServer(options: RunOptions, context: CommandContext): Promise<ExitCode> {
  const { config, warnings } = options;
  const log = await context.openLog(config, wantsColour(context, context.stdout));
  context.onBug(bug => log.fatal({ err: bug }, 'uncaught error'));
  for (const warning of warnings) log.warn({ detail: warning }, 'configuration warning');

  let onDrainRequest: (() => void) | undefined;
  const server = await start(config, {
    log,
    clock: context.clock,
    onDrainRequest: () => onDrainRequest?.(),
  });
  const { port, adminPort, tls } = server;

  const drained = new Promise<ExitCode>(resolve => {
    let isDraining = false;
    const drain = (reason: { readonly signal: string } | { readonly request: true }): void => {
      isDraining = true;
      log.info({ ...reason, timeoutMs: config.drainTimeoutMs }, 'draining');
      server.drain().then(
        () => {
          log.info({}, 'drained');
          resolve(EXIT.ok);
        },
        (error: unknown) => {
          log.error({ err: error }, 'drain failed');
          resolve(EXIT.failed);
        },
      );
    };
    context.onSignal(['SIGTERM', 'SIGINT'], signal => {
      if (!isDraining) {
        drain({ signal });
        return;
      }
      log.warn({ signal }, 'second signal: ending at once');
      // Workers would take our end for a reason to drain.
      if (server.failed !== undefined) void server.stop();
      context.exit(EXIT.failed);
    });
    onDrainRequest = () => {
      if (!isDraining) drain({ request: true });
    };
  });
  context.onSignal(['SIGHUP'], () => {
    server.reloadCertificates().then(
      () => log.info({}, 'certificates reloaded'),
      (error: unknown) => log.error({ err: error }, 'certificates not reloaded, the old ones stay'),
    );
  });

  // Scripts wait for this line, so it is written whatever the level is.
  log
    .child({}, { level: 'info' })
    .info({ port, adminPort, host: config.host, adminHost: config.adminHost, tls }, 'listening');
  options.onListening?.({ port, adminPort });
  try {
    return await Promise.race([drained, ...(server.failed === undefined ? [] : [server.failed])]);
  } catch (error) {
    log.fatal({ err: error }, 'ending: a worker does not stay up');
    await server.stop();
    throw error;
  }
}

/** What `startServer` and `startParent` have in common. */
interface Running {
  readonly port: number;
  readonly adminPort: number;
  readonly tls: boolean;
  drain(): Promise<void>;
  stop(): Promise<void>;
  reloadCertificates(): Promise<void>;
  /** Of a parent: rejects when it cannot go on. */
  readonly failed?: Promise<never>;
}

async function start(
  config: Config,
  deps: {
    readonly log: CommandLog;
    readonly clock: CommandContext['clock'];
    readonly onDrainRequest: () => void;
  },
): Promise<Running> {
  const workers = config.workers === 'auto' ? availableParallelism() : config.workers;
  if (workers === 1) {
    const { startServer } = await import('../server.ts');
    return startServer(config, deps);
  }
  const { startParent } = await import('../server-parent.ts');
  return startParent(config, workers, deps);
}
