import { usageError } from './command-error.ts';
import { pathFor, relayConnection, type ConnectionOptions } from './connection.ts';
import { writeLine, type CommandContext } from './context.ts';
import { parseDuration } from './duration.ts';

export interface TokenOptions extends ConnectionOptions {
  readonly path?: string;
  readonly ttl: string;
  readonly audience?: string;
  readonly json?: boolean;
}

/** `halfway token`: prints a SAS token made with the key of the connection string. */
export async function runToken(options: TokenOptions, context: CommandContext): Promise<void> {
  const ttlMs = parseDuration(options.ttl);
  if (ttlMs === undefined) {
    throw usageError(`Cannot read --ttl "${options.ttl}": it must be such as 90s, 30m, 1h or 7d`);
  }
  const connection = await relayConnection(options, context);
  const audience = options.audience ?? connection.audienceFor(pathFor(options.path, connection));
  const expiresAtSec = Math.floor((context.clock.wallMs() + ttlMs) / 1_000);
  const token = connection.canRenew ? connection.tokenFor(audience, expiresAtSec) : undefined;
  if (token === undefined) {
    throw usageError('Cannot sign: the connection string has no SharedAccessKeyName and key');
  }
  const line = options.json === true ? JSON.stringify({ token, audience, expiresAtSec }) : token;
  await writeLine(context.stdout, line);
}
