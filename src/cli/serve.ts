import type { ExitCode } from './command-error.ts';
import type { CommandContext } from './context.ts';
import { runServer } from './run-server.ts';
import { loadServerConfig } from './server-config.ts';
import type { ServerFlags } from './server-flags.ts';

/** `halfway serve`: the relay for production; needs a configuration with namespaces. */
export function runServe(flags: ServerFlags, context: CommandContext): Promise<ExitCode> {
  return runServer(loadServerConfig('serve', flags, context), context);
}
