import type { Config } from '../config/options.ts';
import { EXIT, type ExitCode } from './command-error.ts';
import { wantsColour, type CommandContext } from './context.ts';

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

  const { startServer } = await import('../server.ts');
  const server = await startServer(config, { log, clock: context.clock });
  const { port, adminPort, tls } = server;

  const drained = new Promise<ExitCode>(resolve => {
    let isDraining = false;
    context.onSignal(['SIGTERM', 'SIGINT'], signal => {
      if (isDraining) {
        log.warn({ signal }, 'second signal: ending at once');
        context.exit(EXIT.failed);
        return;
      }
      isDraining = true;
      log.info({ signal, timeoutMs: config.drainTimeoutMs }, 'draining');
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
    });
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
  return drained;
}
