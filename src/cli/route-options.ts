import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { RelayOptions } from '../client/relay-target.ts';
import { messageOf, usageError } from './command-error.ts';
import type { RelayConnection } from './connection.ts';
import type { CommandContext } from './context.ts';

/** How a command gets to the relay. */
export interface RouteOptions {
  readonly transport?: string;
  readonly proxy?: string;
  readonly ca?: string;
}

const ROUTE_HELP = `
The transport is WebSocket, and long-polling where something on the way does not let WebSockets pass; --transport
websocket or poll insists on one. The proxy is that of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, but none for
hosts of this machine; --proxy URL names another, --proxy none goes without. A password for it is better kept in the
variable, where other users cannot see it.`;

export function addRouteOptions(command: Command): Command {
  return addWayOptions(command)
    .option('--transport <NAME>', 'auto, websocket or poll (default auto)')
    .addHelpText('after', ROUTE_HELP);
}

/** For a command that tries all transports. */
export function addWayOptions(command: Command): Command {
  return command
    .option('--proxy <URL>', 'the HTTP proxy to go through; "none": none')
    .option('--ca <FILE>', 'certificates (PEM) of authorities to trust besides the usual ones');
}

/** What the library needs to reach a hybrid connection. Throws a usage error. */
export function clientOptions(
  connection: RelayConnection,
  path: string,
  options: RouteOptions,
  { clock }: CommandContext,
): RelayOptions {
  const transport = transportOf(options.transport);
  return {
    endpoint: connection.httpOrigin,
    path,
    clock,
    ...wayOptions(options),
    ...(transport === undefined ? {} : { transport }),
    ...(connection.tokens === undefined ? {} : { tokenProvider: connection.tokens }),
  };
}

/** Throws a usage error for what is no transport. */
export function transportOf(text: string | undefined): RelayOptions['transport'] {
  if (isTransport(text)) return text;
  throw usageError(`Cannot use --transport "${text}": it is auto, websocket or poll`);
}

/** Proxy and authorities. Throws a usage error. */
export function wayOptions({ proxy, ca }: RouteOptions): Pick<RelayOptions, 'proxy' | 'ca'> {
  return {
    ...(proxy === undefined ? {} : { proxy: proxy === 'none' ? (false as const) : proxy }),
    ...(ca === undefined ? {} : { ca: fileOf(ca) }),
  };
}

/** Calls the library's constructor; what it says against the options is a usage error. */
export function withUsageErrors<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    // What of `ca` cannot be parsed is an error of OpenSSL.
    const isOfOptions =
      error instanceof TypeError || (error instanceof Error && 'opensslErrorStack' in error);
    throw isOfOptions ? usageError(messageOf(error)) : error;
  }
}

function isTransport(text: string | undefined): text is RelayOptions['transport'] {
  return text === undefined || text === 'auto' || text === 'websocket' || text === 'poll';
}

function fileOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw usageError(`Cannot read --ca: ${messageOf(error)}`);
  }
}
