import { readFileSync } from 'node:fs';
import { RelayError } from '../../client/relay-error.ts';
import { isLoopback } from '../../client/loopback.ts';
import { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import { CommandError, messageOf, usageError } from '../command-error.ts';
import { readAll, type CommandContext } from '../context.ts';
import { wordsOf } from '../refusal-advice.ts';
import { wayOptions, withUsageErrors } from '../route-options.ts';
import {
  ENDPOINT_VARIABLE,
  ENVIRONMENT_VARIABLE,
  TOKEN_VARIABLE,
  type ApiOptions,
} from './api-options.ts';

/** Opens job dispatch for one command and runs it; what the server refuses is told in its words. */
export async function withDispatch<T>(
  options: ApiOptions,
  context: CommandContext,
  run: (client: DispatchClient) => Promise<T>,
): Promise<T> {
  const client = await openDispatch(options, context);
  try {
    return await run(client);
  } catch (error) {
    throw error instanceof DispatchError ? new CommandError(explanationOf(error)) : error;
  }
}

/** Of empty variables, which Compose files and charts pass on, nothing is seen. */
function given(option: string | undefined, variable: string | undefined): string | undefined {
  return option ?? (variable === '' ? undefined : variable);
}

async function openDispatch(options: ApiOptions, context: CommandContext): Promise<DispatchClient> {
  const { env, clock, stderr } = context;
  const endpoint = given(options.endpoint, env[ENDPOINT_VARIABLE]);
  if (endpoint === undefined) {
    throw usageError(
      `Cannot tell where job dispatch is: set ${ENDPOINT_VARIABLE}, or give --endpoint https://HOST`,
    );
  }
  const token = await apiToken(options.apiTokenFile, context);
  const client = withUsageErrors(
    () =>
      new DispatchClient({
        endpoint,
        token,
        environment: given(options.environment, env[ENVIRONMENT_VARIABLE]),
        clock,
        ...wayOptions(options),
      }),
  );
  const { protocol, hostname } = new URL(client.origin);
  if (protocol === 'http:' && !isLoopback(hostname)) {
    stderr.write('note: without TLS others on the way can read the API token and use it\n');
  }
  return client;
}

async function apiToken(file: string | undefined, { env, stdin }: CommandContext): Promise<string> {
  const [text = '', fileOfVariable = ''] = [env[TOKEN_VARIABLE], env[`${TOKEN_VARIABLE}_FILE`]];
  const from = file ?? (text === '' && fileOfVariable !== '' ? fileOfVariable : undefined);
  const token = (from === undefined ? text : await textIn(from)).trim();
  if (token === '') {
    throw usageError(
      `Cannot tell who asks: set ${TOKEN_VARIABLE} or ${TOKEN_VARIABLE}_FILE, or give --api-token-file`,
    );
  }
  // A header takes nothing else, and the error of whoever tries would repeat it.
  if (!/^[!-~]+$/.test(token)) throw usageError('Cannot use the API token: it has spaces in it');
  return token;

  async function textIn(name: string): Promise<string> {
    if (name === '-') return readAll(stdin);
    try {
      return readFileSync(name, 'utf8');
    } catch (error) {
      throw usageError(`Cannot read the API token: ${messageOf(error)}`);
    }
  }
}

/** What the server says, each fault of what was sent, and what to do where only this program knows it. */
export function explanationOf(error: DispatchError): string {
  const { cause, code, faults, message, status, trackingId } = error;
  if (cause instanceof RelayError) return wordsOf(cause);
  if (status === undefined || code === 'AnswerUnreadable') return message;
  const lines = faults.map(fault => `\n  ${fault.path} ${fault.message}`.trimEnd());
  const advice =
    status === 401 ? `\n  check ${TOKEN_VARIABLE}, or what --api-token-file names` : '';
  const tracking = status >= 500 && trackingId !== undefined ? ` [${trackingId}]` : '';
  return `${message} (${code})${tracking}${lines.join('')}${advice}`;
}
