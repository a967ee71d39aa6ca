import { createReadStream } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CommandError, EXIT, messageOf, usageError, type ExitCode } from './command-error.ts';
import { pathFor, relayConnection, type ConnectionOptions } from './connection.ts';
import { write, type CommandContext } from './context.ts';
import { splitHeader } from './header-option.ts';
import { adviceOnStatus } from './refusal-advice.ts';

export interface RequestOptions extends ConnectionOptions {
  readonly request?: string;
  readonly header?: readonly string[];
  readonly data?: string;
  readonly include?: boolean;
  readonly fail?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const TOKEN_TTL_MS = 600_000;

/** `halfway request`: one HTTP request to a listener; the exit code is 0 for 2xx and 3xx. */
export async function runRequest(
  pathArgument: string | undefined,
  options: RequestOptions,
  context: CommandContext,
): Promise<ExitCode> {
  if (options.connectionStringFile === '-' && (options.data === '-' || options.data === '@-')) {
    throw usageError('Cannot read both the connection string and the body from standard input');
  }
  const connection = await relayConnection(options, context);
  const pathAndQuery = pathFor(pathArgument, connection);
  const [path = ''] = pathAndQuery.split('?', 1);
  const expiresAtSec = Math.floor((context.clock.wallMs() + TOKEN_TTL_MS) / 1_000);
  const token = connection.tokenFor(connection.audienceFor(path), expiresAtSec);
  const headers = {
    ...Object.fromEntries((options.header ?? []).map(splitHeader)),
    ...(token === undefined ? {} : { ServiceBusAuthorization: token }),
  };
  const url = new URL(`${connection.httpOrigin}/${pathAndQuery}`);
  const method = options.request ?? (options.data === undefined ? 'GET' : 'POST');
  const body = bodyOf(options.data, context);
  try {
    const response = await send(url, { method, headers }, body);
    return await show(response, options, context);
  } catch (error) {
    throw new CommandError(`Cannot request "${path}" at ${url.origin}: ${messageOf(error)}`);
  }
}

function send(
  url: URL,
  head: { readonly method: string; readonly headers: Readonly<Record<string, string>> },
  body: Readable | string | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = open(url, { ...head, agent: false });
    let hasAnswer = false;
    request.once('response', response => {
      hasAnswer = true;
      resolve(response);
    });
    request.once('error', reject);
    if (!(body instanceof Readable)) {
      request.end(body);
      return;
    }
    pipeline(body, request).catch((error: unknown) => {
      // An answer that comes before the whole body was wanted is an answer all the same.
      if (!hasAnswer) reject(error instanceof Error ? error : new Error(String(error)));
    });
  });
}

/** `@FILE`, `@-` or `-` for standard input, or the body itself. */
function bodyOf(
  data: string | undefined,
  { stdin }: CommandContext,
): Readable | string | undefined {
  if (data === '-' || data === '@-') return stdin;
  return data?.startsWith('@') === true ? createReadStream(data.slice(1)) : data;
}

async function show(
  response: IncomingMessage,
  options: RequestOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const { statusCode: status = 0, statusMessage = '' } = response;
  const isGood = status >= 200 && status < 400;
  if (options.include === true) await write(context.stdout, headText(response));
  if (!isGood && options.quiet !== true) {
    // A listener's answer has Via, the relay's own refusal has not.
    const who = response.headers.via === undefined ? 'the relay refused' : 'the listener answered';
    const advice = response.headers.via === undefined ? adviceOnStatus(status) : undefined;
    const line = `halfway: ${who}: ${status} ${statusMessage}`.trimEnd();
    context.stderr.write(advice === undefined ? `${line}\n` : `${line}\n  ${advice}\n`);
  }
  if (!isGood && options.fail === true) {
    response.destroy();
    return EXIT.failed;
  }
  if (options.json === true) await showAsJson(response, context);
  else for await (const chunk of response) await write(context.stdout, Buffer.from(chunk));
  return isGood ? EXIT.ok : EXIT.failed;
}

async function showAsJson(response: IncomingMessage, context: CommandContext): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk));
  const { statusCode: status, statusMessage: reason, headersDistinct: headers } = response;
  const body = Buffer.concat(chunks).toString('utf8');
  await write(context.stdout, `${JSON.stringify({ status, reason, headers, body })}\n`);
}

function headText(response: IncomingMessage): string {
  const { httpVersion, statusCode, statusMessage, rawHeaders } = response;
  const lines = [`HTTP/${httpVersion} ${statusCode} ${statusMessage}`];
  for (let i = 0; i < rawHeaders.length; i += 2)
    lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
