import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { signToken, tokenAudience } from '../auth/sign-token.ts';
import { plainOnLoopback } from '../client/relay-target.ts';
import { fixedToken, sharedKeyTokens, type TokenProvider } from '../client/token-provider.ts';
import {
  httpOrigin,
  parseConnectionString,
  webSocketOrigin,
  type ConnectionString,
} from '../protocol/connection-string.ts';
import { messageOf, usageError } from './command-error.ts';
import { readAll, type CommandContext } from './context.ts';

/** Options of every command that speaks to a relay. */
export interface ConnectionOptions {
  readonly connectionString?: string;
  readonly connectionStringFile?: string;
  readonly tls?: boolean;
}

const VARIABLE = 'HALFWAY_CONNECTION_STRING';

export const CONNECTION_HELP = `
The connection string comes from ${VARIABLE}, from the file that ${VARIABLE}_FILE or
--connection-string-file names ("-" is standard input), or, visible to every user of this machine and kept in the
shell's history, from --connection-string. sb:// means TLS, but not for a loopback host with a port other than 443
(what \`halfway dev\` prints), unless --tls is given; http:// never means TLS.`;

export function addConnectionOptions(command: Command): Command {
  return command
    .option(
      '--connection-string-file <FILE>',
      'file with the connection string; "-": standard input',
    )
    .option('--connection-string <TEXT>', 'the connection string itself; other users can see it')
    .option('--tls', 'use TLS for a loopback host too')
    .addHelpText('after', CONNECTION_HELP);
}

/** Where a relay is and how to prove a right there. */
export interface RelayConnection {
  /** `http://host:port` or `https://host:port` */
  readonly httpOrigin: string;
  /** `ws://host:port` or `wss://host:port` */
  readonly webSocketOrigin: string;
  /** The hybrid connection that the connection string is for, if it is for one. */
  readonly entityPath: string | undefined;
  /** The audience that covers `path` and everything below it. */
  readonly audienceFor: (path: string) => string;
  /**
   * A token for an audience; a connection string with a ready-made one gives that, whatever is asked. Undefined when
   * the connection string has no key: fine for senders where the hybrid connection lets them in without.
   */
  readonly tokenFor: (audience: string, expiresAtSec: number) => string | undefined;
  /** Whether `tokenFor` makes new tokens. */
  readonly canRenew: boolean;
  /** For the client library; undefined as with `tokenFor`. */
  readonly tokens: TokenProvider | undefined;
}

/** Finds and reads the connection string. Throws a usage error that never repeats it. */
export async function relayConnection(
  options: ConnectionOptions,
  context: CommandContext,
): Promise<RelayConnection> {
  const text = await connectionStringText(options, context);
  const parsed = parseConnectionString(text.trim());
  if (!parsed.ok) {
    throw usageError(`Cannot read the connection string:\n  ${parsed.faults.join('\n  ')}`);
  }
  const endpoint = plainOnLoopback(parsed.value.endpoint, options.tls === true);
  const { sharedAccessKeyName, sharedAccessKey, sharedAccessSignature, entityPath } = parsed.value;
  return {
    httpOrigin: httpOrigin(endpoint),
    webSocketOrigin: webSocketOrigin(endpoint),
    entityPath,
    audienceFor: path => tokenAudience(endpoint.host, path),
    tokenFor: (audience, expiresAtSec) =>
      sharedAccessKeyName === undefined || sharedAccessKey === undefined
        ? sharedAccessSignature
        : signToken({ audience, keyName: sharedAccessKeyName, key: sharedAccessKey, expiresAtSec }),
    canRenew: sharedAccessKey !== undefined,
    tokens: tokensOf(parsed.value, context),
  };
}

function tokensOf(
  { sharedAccessKeyName: keyName, sharedAccessKey: key, sharedAccessSignature }: ConnectionString,
  { clock }: CommandContext,
): TokenProvider | undefined {
  if (keyName !== undefined && key !== undefined) return sharedKeyTokens({ keyName, key }, clock);
  return sharedAccessSignature === undefined ? undefined : fixedToken(sharedAccessSignature);
}

/** The hybrid connection a command is about: its argument, or else the one of the connection string. */
export function pathFor(argument: string | undefined, connection: RelayConnection): string {
  const path = (argument ?? connection.entityPath ?? '').replace(/^\/+/, '');
  if (path !== '') return path;
  throw usageError('Cannot tell which hybrid connection: give PATH, or EntityPath in the string');
}

/** What a sender is to reach, for the library. */
export interface SenderPlace {
  /** As given, without a query: for messages. */
  readonly shown: string;
  /** The first segment, which is not always the whole name of the hybrid connection. */
  readonly root: string;
  /** All that follows, with a query perhaps. */
  readonly below: string;
  /** Signs for all of the path, since it is not known where the hybrid connection's name ends. */
  readonly tokens: TokenProvider | undefined;
}

export function senderPlace(
  argument: string | undefined,
  connection: RelayConnection,
): SenderPlace {
  const whole = pathFor(argument, connection);
  const [shown = '', query] = whole.split(/\?(.*)/s);
  const [root = '', rest = ''] = shown.split(/\/(.*)/s);
  const { tokens } = connection;
  return {
    shown,
    root,
    below: query === undefined || query === '' ? rest : `${rest}?${query}`,
    tokens: tokens && {
      getToken: (_audience, validForMs) =>
        tokens.getToken(connection.audienceFor(shown), validForMs),
    },
  };
}

async function connectionStringText(
  options: ConnectionOptions,
  { env, stdin }: CommandContext,
): Promise<string> {
  if (options.connectionString !== undefined && options.connectionStringFile !== undefined) {
    throw usageError('Cannot take --connection-string and --connection-string-file: give one');
  }
  if (options.connectionString !== undefined) return options.connectionString;
  if (options.connectionStringFile === '-') return readAll(stdin);
  if (options.connectionStringFile !== undefined) return fileText(options.connectionStringFile);
  // Compose files and charts pass on variables that were never set as empty ones.
  const [text = '', file = ''] = [env[VARIABLE], env[`${VARIABLE}_FILE`]];
  if (text !== '') return text;
  if (file !== '') return fileText(file);
  throw usageError(
    `Cannot tell where the relay is: set ${VARIABLE}, or give --connection-string-file FILE. ` +
      '`halfway dev` prints a connection string to copy',
  );
}

function fileText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usageError(`Cannot read the connection string: ${messageOf(error)}`);
  }
}
