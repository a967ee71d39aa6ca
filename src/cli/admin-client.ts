import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Command } from 'commander';
import { CommandError, messageOf, usageError } from './command-error.ts';
import type { CommandContext } from './context.ts';

/** Where the admin port of a relay is, and how it is entered. */
export interface AdminAddress {
  readonly adminUrl?: string;
  readonly adminTokenFile?: string;
}

/** Options of every command that uses the management API. */
export interface AdminOptions extends AdminAddress {
  readonly namespace?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const URL_VARIABLE = 'HALFWAY_ADMIN_URL';
const TOKEN_VARIABLE = 'HALFWAY_ADMIN_TOKEN';
const URL_DEFAULT = 'http://127.0.0.1:9090';
const ANSWER_TIMEOUT_MS = 15_000;
const ANSWER_CHARS_MAX = 64 * 1024 * 1024;

const ADDRESS_HELP = `
Speaks to the admin port of a running relay: --admin-url, or ${URL_VARIABLE}, or ${URL_DEFAULT}. The admin
token, where the port asks for one, comes from ${TOKEN_VARIABLE}, or from the file that ${TOKEN_VARIABLE}_FILE or
--admin-token-file names.`;

export const ADMIN_HELP = `${ADDRESS_HELP} --namespace may be left out where there is only one.

Exit codes: 0 done, 64 wrong usage, 1 refused or not reached.`;

/** Options and help of commands that speak to the admin port, and not to its management API. */
export function addAdminAddress(command: Command): Command {
  return addressOptions(command).addHelpText('after', ADDRESS_HELP);
}

function addressOptions(command: Command): Command {
  return command
    .option('--admin-url <URL>', `the admin port (${URL_VARIABLE}; default ${URL_DEFAULT})`)
    .option('--admin-token-file <FILE>', `file with the admin token (${TOKEN_VARIABLE}[_FILE])`);
}

export function addAdminOptions(command: Command): Command {
  return addressOptions(
    command.option('--namespace <NAME>', 'the namespace; needed where there are several'),
  )
    .option('--json', 'print JSON, as the management API gives it')
    .addHelpText('after', ADMIN_HELP);
}

export interface AdminAnswer {
  readonly body: unknown;
  readonly etag: string | undefined;
  readonly status: number;
}

export interface AdminCall {
  readonly body?: unknown;
  readonly ifMatch?: string;
  readonly ifNoneMatch?: string;
}

/** The management API of one relay. */
export interface AdminClient {
  /** Below `/api/namespaces/{namespace}`. Fails with `CommandError`, in the words of the API, when it says no. */
  call(method: string, path: string, call?: AdminCall): Promise<AdminAnswer>;
  readonly namespace: string;
  /** Whether the server keeps changes when it ends. */
  readonly changesAreKept: boolean;
}

/** Nobody answers at the admin port. */
export class AdminUnreachable extends CommandError {}

/** Asks the admin port. Fails with `CommandError`, in its words, when it says no. */
export type AskAdmin = (method: string, path: string, call?: AdminCall) => Promise<AdminAnswer>;

export function adminPort(options: AdminAddress, context: CommandContext): AskAdmin {
  const base = baseUrl(options.adminUrl ?? context.env[URL_VARIABLE]);
  const token = adminToken(options.adminTokenFile, context);
  return (method, path, call = {}) =>
    askAdmin({ method, url: new URL(`${base}${path}`), token }, call, context);
}

/** Finds out where the admin port is and which namespace is meant. */
export async function openAdminClient(
  options: AdminOptions,
  context: CommandContext,
): Promise<AdminClient> {
  const ask = adminPort(options, context);
  const { body } = await ask('GET', '/api/namespaces');
  const namespace = chosen(listIn(body), options.namespace);
  const name = textAt(namespace, 'name');
  return {
    namespace: name,
    changesAreKept: fieldAt(fieldAt(namespace, 'properties'), 'changesAreKept') === true,
    call: (method, path, call = {}) =>
      ask(method, `/api/namespaces/${encodeURIComponent(name)}${path}`, call),
  };
}

/** Said once after a change that will not outlive the server. */
export function warnIfLost(client: AdminClient, { stderr }: CommandContext): void {
  if (client.changesAreKept) return;
  stderr.write(
    'note: the server keeps this in memory only, until it ends; start it with --data DIR\n',
  );
}

export function fieldAt(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

/** A field as text, '' when it is not there. */
export function textAt(value: unknown, name: string): string {
  const field = fieldAt(value, name);
  return typeof field === 'string' || typeof field === 'number' || typeof field === 'boolean'
    ? String(field)
    : '';
}

/** The items of an answer `{"value":[…]}`. */
export function listIn(body: unknown): readonly unknown[] {
  const value = fieldAt(body, 'value');
  return Array.isArray(value) ? value : [];
}

/** Columns as wide as their widest cell. */
export function tableOf(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map(row => row[i]?.length ?? 0)));
  return rows
    .map(row => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  '))
    .map(line => line.trimEnd())
    .join('\n');
}

function baseUrl(given: string | undefined): string {
  // Compose files and charts pass on variables that were never set as empty ones.
  const text = given === undefined || given === '' ? URL_DEFAULT : given;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw usageError('Cannot read the admin URL: it must be such as http://127.0.0.1:9090');
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

function adminToken(file: string | undefined, { env }: CommandContext): string | undefined {
  const [text = '', fileOfVariable = ''] = [env[TOKEN_VARIABLE], env[`${TOKEN_VARIABLE}_FILE`]];
  const from = file ?? (text === '' && fileOfVariable !== '' ? fileOfVariable : undefined);
  if (from === undefined) return text === '' ? undefined : text;
  try {
    return readFileSync(from, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw usageError(`Cannot read the admin token: ${messageOf(error)}`);
  }
}

function chosen(namespaces: readonly unknown[], wanted: string | undefined): unknown {
  const names = namespaces.map(one => textAt(one, 'name'));
  const found =
    wanted === undefined
      ? namespaces.length === 1
        ? 0
        : -1
      : names.findIndex(name => name.toLowerCase() === wanted.toLowerCase());
  if (found !== -1) return namespaces[found];
  const problem =
    wanted === undefined ? 'Cannot tell which namespace' : `There is no namespace "${wanted}"`;
  throw usageError(`${problem}: give --namespace with one of ${names.join(', ')}`);
}

async function askAdmin(
  target: { readonly method: string; readonly url: URL; readonly token: string | undefined },
  call: AdminCall,
  context: CommandContext,
): Promise<AdminAnswer> {
  const { method, url, token } = target;
  const text = call.body === undefined ? undefined : JSON.stringify(call.body);
  const headers = {
    Accept: 'application/json',
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    ...(text === undefined ? {} : { 'Content-Type': 'application/json' }),
    'Content-Length': String(Buffer.byteLength(text ?? '')),
    ...(call.ifMatch === undefined ? {} : { 'If-Match': call.ifMatch }),
    ...(call.ifNoneMatch === undefined ? {} : { 'If-None-Match': call.ifNoneMatch }),
  };
  let answer: { readonly status: number; readonly text: string; readonly etag: string | undefined };
  try {
    answer = await exchange(url, { method, headers, text }, context);
  } catch (error) {
    throw new AdminUnreachable(
      `Cannot reach the admin port at ${url.origin}: ${messageOf(error)}. ` +
        `Is the relay running, and is ${URL_VARIABLE} or --admin-url right?`,
    );
  }
  const body = parsed(answer.text);
  if (answer.status >= 200 && answer.status < 300) {
    return { body, etag: answer.etag, status: answer.status };
  }
  throw new CommandError(refusalText(answer.status, body, url));
}

function refusalText(status: number, body: unknown, url: URL): string {
  if (status === 401) {
    return `The admin port at ${url.origin} asks for its token: set ${TOKEN_VARIABLE} or ${TOKEN_VARIABLE}_FILE, or give --admin-token-file`;
  }
  const error = fieldAt(body, 'error');
  const details = fieldAt(error, 'details');
  const faults = (Array.isArray(details) ? details : []).map(
    fault => `\n  ${textAt(fault, 'target')} ${textAt(fault, 'message')}`,
  );
  if (faults.length > 0) return `Cannot do it:${faults.join('')}`;
  const message = textAt(error, 'message');
  return message === ''
    ? `The admin port at ${url.origin} answered ${status}: is that a Halfway relay?`
    : message;
}

function exchange(
  url: URL,
  request: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly text: string | undefined;
  },
  { clock }: CommandContext,
): Promise<{ readonly status: number; readonly text: string; readonly etag: string | undefined }> {
  return new Promise((resolve, reject) => {
    const { method, headers } = request;
    const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const asked = open(url, { method, headers, agent: false });
    const cancel = clock.after(ANSWER_TIMEOUT_MS, () =>
      asked.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)),
    );
    asked.once('close', cancel);
    asked.once('error', reject);
    asked.once('response', (response: IncomingMessage) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text = (text + chunk).slice(0, ANSWER_CHARS_MAX);
      });
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text, etag: response.headers.etag }),
      );
    });
    asked.end(request.text);
  });
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
