import { randomUUID } from 'node:crypto';
import { isEntityName } from '../protocol/request-path.ts';
import { CommandError, messageOf, usageError } from './command-error.ts';
import { pathFor, relayConnection } from './connection.ts';
import type { ConnectionOptions, RelayConnection } from './connection.ts';
import type { CommandContext } from './context.ts';
import { echoMode } from './listen-modes/echo.ts';
import { forwardMode } from './listen-modes/forward.ts';
import type { ListenMode } from './listen-modes/listen-mode.ts';
import { printMode } from './listen-modes/print.ts';
import { adviceOn } from './refusal-advice.ts';
import { ControlLink } from './relay-client/control-link.ts';
import { HandshakeRefused } from './relay-client/frame-socket.ts';
import {
  answerAtAddress,
  answerInline,
  type ExchangeDeps,
} from './relay-client/request-exchange.ts';

export interface ListenOptions extends ConnectionOptions {
  readonly print?: boolean;
  readonly to?: string;
  readonly keepPath?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const TOKEN_TTL_MS = 3_600_000;

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
  const report = (text: string): void => {
    if (options.quiet !== true) context.stderr.write(`${text}\n`);
  };
  const mode = modeFor(path, options, context, report);
  const link = openLink({ connection, path, mode, context, report });
  const offSignals = context.onSignal(['SIGINT', 'SIGTERM'], () => {
    offSignals();
    link.stop();
  });
  try {
    await link.run();
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(adviceOn(`Cannot listen on "${path}"`, error));
  }
}

function openLink(parts: {
  readonly connection: RelayConnection;
  readonly path: string;
  readonly mode: ListenMode;
  readonly context: CommandContext;
  readonly report: (text: string) => void;
}): ControlLink {
  const { connection, path, mode, report } = parts;
  const { clock } = parts.context;
  const audience = connection.audienceFor(path);
  const onFailure = (error: unknown): void => {
    // An address that is refused has expired, mostly because its sender gave up.
    const isLate = error instanceof HandshakeRefused;
    report(isLate ? `a sender has gone: ${error.message}` : messageOf(error));
  };
  let isUp = false;
  const link: ControlLink = new ControlLink({
    address: `${connection.webSocketOrigin}/$hc/${path}?sb-hc-action=listen&sb-hc-id=${randomUUID()}`,
    token: () => {
      const expiresAtSec = Math.floor((clock.wallMs() + TOKEN_TTL_MS) / 1_000);
      const token = connection.tokenFor(audience, expiresAtSec);
      if (token !== undefined) return token;
      throw usageError('Cannot listen without a key: the connection string has none');
    },
    tokenTtlMs: TOKEN_TTL_MS,
    canRenew: connection.canRenew,
    clock,
    onAccept: accept => {
      mode.accept(accept).catch(onFailure);
    },
    onRequest: (request, body) => {
      answerInline(request, body, exchange).catch(onFailure);
    },
    onRequestPointer: address => {
      answerAtAddress(address, exchange).catch(onFailure);
    },
    onOpen: () => {
      isUp = true;
      report(`listening on ${connection.httpOrigin}/${path}`);
    },
    onDown: (why, retryMs) => {
      const what = `${isUp ? 'lost' : 'cannot reach'} ${connection.webSocketOrigin}`;
      isUp = false;
      report(`${adviceOn(what, why)}; trying again in ${(retryMs / 1_000).toFixed(1)} s`);
    },
  });
  const exchange: ExchangeDeps = { clock, link, answer: mode.answer, onFailure };
  return link;
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
  if (options.print !== true) return echoMode({ clock });
  return printMode({
    clock,
    print: (text, fields) => {
      stdout.write(`${options.json === true ? JSON.stringify(fields) : text}\n`);
    },
  });
}

function targetOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^(https?|wss?):$/.test(url.protocol)) return url;
  throw usageError(`Cannot forward to "${text}": it must be such as http://localhost:3000`);
}
