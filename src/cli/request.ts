import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { HybridConnectionClient } from '../client/hybrid-connection-client.ts';
import type { HttpAnswer } from '../client/http-exchange.ts';
import { RelayError } from '../client/relay-error.ts';
import { CommandError, EXIT, usageError, type ExitCode } from './command-error.ts';
import { relayConnection, senderPlace, type ConnectionOptions } from './connection.ts';
import { write, type CommandContext } from './context.ts';
import { splitHeader } from './header-option.ts';
import { adviceOn, adviceOnStatus, wordsOf } from './refusal-advice.ts';
import { clientOptions, withUsageErrors, type RouteOptions } from './route-options.ts';

export interface RequestOptions extends ConnectionOptions, RouteOptions {
  readonly request?: string;
  readonly header?: readonly string[];
  readonly data?: string;
  readonly include?: boolean;
  readonly fail?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** The relay, which knows its own limit, gives up before. */
const ANSWER_TIMEOUT_MS = 86_400_000;

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
  const { shown, root, below, tokens } = senderPlace(pathArgument, connection);
  const optionsThere = clientOptions({ ...connection, tokens }, root, options, context);
  const client = withUsageErrors(() => new HybridConnectionClient(optionsThere));
  const body = bodyOf(options.data, context);
  try {
    const answer = await client
      .request({
        path: below,
        method: options.request ?? (options.data === undefined ? 'GET' : 'POST'),
        headers: Object.fromEntries((options.header ?? []).map(splitHeader)),
        ...(body === undefined ? {} : { body }),
        timeoutMs: ANSWER_TIMEOUT_MS,
      })
      .catch(refusalIn);
    return await show(answer, options, context);
  } catch (error) {
    const what = `Cannot request "${shown}" at ${connection.httpOrigin}`;
    throw new CommandError(adviceOn(what, error));
  }
}

/** What is shown: a listener's answer, or the one that came in its place. */
interface ShownAnswer extends Pick<HttpAnswer, 'status' | 'reason' | 'rawHeaders' | 'body'> {
  /** Undefined: the answer is the listener's. */
  readonly refusal?: RelayError;
}

/** A refusal of the relay, or of something on the way, is shown as answers are. */
function refusalIn(error: unknown): ShownAnswer {
  if (!(error instanceof RelayError) || error.answer === undefined) throw error;
  const { status = 0, reason = '', answer } = error;
  const { rawHeaders, body } = answer;
  return { status, reason, rawHeaders, body: Readable.from([Buffer.from(body)]), refusal: error };
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
  answer: ShownAnswer,
  options: RequestOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const { status, body, refusal } = answer;
  const isGood = status >= 200 && status < 400 && refusal === undefined;
  if (options.include === true) await write(context.stdout, headText(answer));
  if (!isGood && options.quiet !== true) context.stderr.write(`halfway: ${complaintOn(answer)}\n`);
  if (!isGood && options.fail === true) {
    body.destroy();
    return EXIT.failed;
  }
  if (options.json === true) await showAsJson(answer, context);
  else for await (const chunk of body) await write(context.stdout, Buffer.from(chunk));
  return isGood ? EXIT.ok : EXIT.failed;
}

function complaintOn({ status, reason, refusal }: ShownAnswer): string {
  if (refusal === undefined) return `the listener answered: ${status} ${reason}`.trimEnd();
  if (refusal.trackingId === undefined) return wordsOf(refusal);
  const advice = adviceOnStatus(status);
  const line = `the relay refused: ${status} ${reason}`.trimEnd();
  return advice === undefined ? line : `${line}\n  ${advice}`;
}

async function showAsJson(answer: ShownAnswer, context: CommandContext): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer.body) chunks.push(Buffer.from(chunk));
  const { status, reason } = answer;
  const headers: Record<string, string[]> = {};
  for (const [name, value] of pairsOf(answer)) (headers[name.toLowerCase()] ??= []).push(value);
  const body = Buffer.concat(chunks).toString('utf8');
  await write(context.stdout, `${JSON.stringify({ status, reason, headers, body })}\n`);
}

function headText(answer: ShownAnswer): string {
  const lines = [`HTTP/1.1 ${answer.status} ${answer.reason}`];
  for (const [name, value] of pairsOf(answer)) lines.push(`${name}: ${value}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function pairsOf({ rawHeaders }: ShownAnswer): readonly (readonly [string, string])[] {
  return rawHeaders.flatMap((name, i) =>
    i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ''] as const] : [],
  );
}
