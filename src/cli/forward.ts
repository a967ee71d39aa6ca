import { HybridConnectionClient } from '../client/hybrid-connection-client.ts';
import { HybridConnectionListener } from '../client/hybrid-connection-listener.ts';
import { RelayError } from '../client/relay-error.ts';
import { isEntityName } from '../protocol/request-path.ts';
import { messageOf, usageError } from './command-error.ts';
import { pathFor, relayConnection, type ConnectionOptions } from './connection.ts';
import type { CommandContext } from './context.ts';
import { openLocalEnd } from './forward/local-end.ts';
import { remoteEnd } from './forward/remote-end.ts';
import {
  formatSocketAddress,
  parseSocketAddress,
  type SocketAddress,
} from './forward/socket-address.ts';
import { Streams } from './forward/streams.ts';
import { adviceOn } from './refusal-advice.ts';
import { clientOptions, withUsageErrors, type RouteOptions } from './route-options.ts';
import { runListener, untilStopped } from './run-listener.ts';

export interface ForwardOptions extends ConnectionOptions, RouteOptions {
  readonly local?: string;
  readonly remote?: string;
  readonly streamsMax?: string;
  readonly quiet?: boolean;
}

export const STREAMS_MAX_DEFAULT = 1_000;
/** How long streams that are open at a signal may take to end. */
const DRAIN_TIMEOUT_MS = 5_000;

/** `halfway forward`: one end of a tunnel for TCP and Unix sockets, until a signal. */
export async function runForward(
  pathArgument: string | undefined,
  options: ForwardOptions,
  context: CommandContext,
): Promise<void> {
  const end = endOf(options);
  const streams = new Streams(streamsMaxOf(options));
  const connection = await relayConnection(options, context);
  const path = pathFor(pathArgument, connection);
  if (!isEntityName(path)) {
    throw usageError(`Cannot forward by "${path}": it is not a name of a hybrid connection`);
  }
  const optionsThere = clientOptions(connection, path, options, context);
  const report = (text: string): void => {
    if (options.quiet !== true) context.stderr.write(`${text}\n`);
  };
  const { clock } = context;
  const drain = (): Promise<void> => {
    if (streams.size > 0) report(`stopping: ${streams.size} streams are open`);
    return streams.drain(DRAIN_TIMEOUT_MS, clock);
  };

  if (end.kind === 'local') {
    const client = withUsageErrors(() => new HybridConnectionClient(optionsThere));
    const local = await openLocalEnd({
      at: end.address,
      client,
      streams,
      onFailure: error => report(failureText(error)),
      onFull: () =>
        report(`a connection was refused: ${streams.size} streams are open, as many as may be`),
    });
    report(`forwarding ${formatSocketAddress(local.at)} to "${path}" at ${connection.httpOrigin}`);
    await untilStopped(context, async () => {
      local.close();
      await drain();
    });
    return;
  }

  if (connection.tokens === undefined) {
    throw usageError('Cannot listen without a key: the connection string has none');
  }
  const onConnection = remoteEnd({ to: end.address, streams, clock, report });
  const listener = withUsageErrors(
    () => new HybridConnectionListener(optionsThere, { onConnection }),
  );
  listener.on('error', error => report(failureText(error)));
  await runListener(
    listener,
    { path, origin: connection.webSocketOrigin, report },
    {
      context,
      onOnline: transport => {
        const how = transport === 'poll' ? ', by long-polling' : '';
        const to = formatSocketAddress(end.address);
        report(`forwarding "${path}" at ${connection.httpOrigin} to ${to}${how}`);
      },
      stop: async () => {
        await listener.close({ timeoutMs: DRAIN_TIMEOUT_MS });
        await drain();
      },
    },
  );
}

function failureText(error: unknown): string {
  if (!(error instanceof RelayError)) return `a stream broke: ${messageOf(error)}`;
  if (error.code === 'ConnectionLost' || error.code === 'Closed') {
    return `a stream broke: ${error.message}`;
  }
  return adviceOn('cannot forward a connection', error);
}

function endOf({ local, remote }: ForwardOptions): {
  readonly kind: 'local' | 'remote';
  readonly address: SocketAddress;
} {
  if ((local === undefined) === (remote === undefined)) {
    throw usageError(
      'Cannot tell which end this is: give -L (listen here) or -R (connect from here)',
    );
  }
  const [kind, flag, text] =
    local === undefined
      ? (['remote', '-R', remote ?? ''] as const)
      : (['local', '-L', local] as const);
  const address = parseSocketAddress(text);
  const isUsable =
    address !== undefined && !(kind === 'remote' && 'port' in address && address.port === 0);
  if (isUsable) return { kind, address };
  throw usageError(
    `Cannot read ${flag} "${text}": it must be such as 5432, 127.0.0.1:5432, [::1]:5432 or unix:/run/x.sock`,
  );
}

function streamsMaxOf({ streamsMax }: ForwardOptions): number {
  const max = streamsMax === undefined ? STREAMS_MAX_DEFAULT : Number(streamsMax);
  if (Number.isInteger(max) && max > 0) return max;
  throw usageError(`Cannot use --streams-max "${streamsMax}": it is a whole number from 1`);
}
