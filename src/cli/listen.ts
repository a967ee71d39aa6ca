import { HybridConnectionListener } from '../client/hybrid-connection-listener.ts';
import { RelayError } from '../client/relay-error.ts';
import { isEntityName } from '../protocol/request-path.ts';
import { messageOf, usageError } from './command-error.ts';
import { pathFor, relayConnection, type ConnectionOptions } from './connection.ts';
import type { CommandContext } from './context.ts';
import { echoMode } from './listen-modes/echo.ts';
import { forwardMode } from './listen-modes/forward.ts';
import type { ListenMode } from './listen-modes/listen-mode.ts';
import { printMode } from './listen-modes/print.ts';
import { clientOptions, withUsageErrors, type RouteOptions } from './route-options.ts';
import { runListener } from './run-listener.ts';

export interface ListenOptions extends ConnectionOptions, RouteOptions {
  readonly print?: boolean;
  readonly to?: string;
  readonly keepPath?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** How long requests that are under way at a signal may take to be answered. */
const STOP_TIMEOUT_MS = 5_000;

/** `halfway listen`: takes what senders send to a hybrid connection, until a signal. */
export async function runListen(
  pathArgument: string | undefined,
  options: ListenOptions,
  context: CommandContext,
): Promise<void> {
  const connection = await relayConnection(options, context);
  const path = pathFor(pathArgument, connection);
  if (!isEntityName(path)) {
    throw usageError(`Cannot listen on "${path}": it is not a name of a hybrid connection`);
  }
  if (connection.tokens === undefined) {
    throw usageError('Cannot listen without a key: the connection string has none');
  }
  const report = (text: string): void => {
    if (options.quiet !== true) context.stderr.write(`${text}\n`);
  };
  const mode = modeFor(path, options, context, report);
  const clientOptionsHere = clientOptions(connection, path, options, context);
  const listener = withUsageErrors(
    () =>
      new HybridConnectionListener(clientOptionsHere, {
        onConnection: mode.accept,
        onRequest: mode.answer,
      }),
  );
  listener.on('error', error => {
    // An address that is refused has expired, mostly because its sender gave up.
    const isLate = error instanceof RelayError && error.status !== undefined;
    report(isLate ? `a sender has gone: ${error.status} ${error.reason ?? ''}` : messageOf(error));
  });
  await runListener(
    listener,
    { path, origin: connection.webSocketOrigin, report },
    {
      context,
      onOnline: transport => {
        const how = transport === 'poll' ? ', by long-polling' : '';
        report(`listening on ${connection.httpOrigin}/${path}${how}`);
      },
      stop: () => listener.close({ timeoutMs: STOP_TIMEOUT_MS }),
    },
  );
}

function modeFor(
  path: string,
  options: ListenOptions,
  context: CommandContext,
  report: (text: string) => void,
): ListenMode {
  const { clock, stdout } = context;
  if (options.to !== undefined) {
    const keepPath = options.keepPath === true;
    return forwardMode({
      to: targetOf(options.to),
      hybridConnection: path,
      keepPath,
      clock,
      report,
    });
  }
  if (options.print !== true) return echoMode();
  return printMode((text, fields) => {
    stdout.write(`${options.json === true ? JSON.stringify(fields) : text}\n`);
  });
}

function targetOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^(https?|wss?):$/.test(url.protocol)) return url;
  throw usageError(`Cannot forward to "${text}": it must be such as http://localhost:3000`);
}
