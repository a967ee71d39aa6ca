import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  request as requestHttp,
  type Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from 'node:http';
import { request as requestHttps } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { TestRelay } from './relay.ts';

export interface SendOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array;
  /** Null: none. Undefined: one that is good for everything. */
  readonly token?: string | null;
  readonly agent?: Agent;
}

export interface HttpAnswer {
  readonly status: number;
  readonly phrase: string;
  /** In lower case. */
  readonly headers: IncomingHttpHeaders;
  /** As they came. */
  readonly rawHeaders: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

/** Begins a request whose body the caller writes and ends. `path` begins with a slash. */
export function openRequest(
  relay: TestRelay,
  path: string,
  options: Omit<SendOptions, 'body'> = {},
): ClientRequest {
  const { method = 'GET', headers = {}, token = relay.token(''), agent } = options;
  const isTls = relay.httpUrl.startsWith('https:');
  const request = isTls ? requestHttps : requestHttp;
  return request({
    host: '127.0.0.1',
    port: relay.port,
    path,
    method,
    headers: { ...(token === null ? {} : { ServiceBusAuthorization: token }), ...headers },
    // One connection a request, unless the test is about connections.
    agent: agent ?? false,
    maxHeaderSize: 131_072,
    ...(isTls ? { rejectUnauthorized: false } : {}),
  });
}

/** Sends a whole request and reads the whole answer. Rejects when the connection breaks. */
export async function send(
  relay: TestRelay,
  path: string,
  options: SendOptions = {},
): Promise<HttpAnswer> {
  const request = openRequest(relay, path, options);
  const answered = answerOf(request);
  request.end(options.body);
  return answered;
}

/** The head of an answer, as soon as it is there. */
export async function headOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
}

/** The whole answer to a request. */
export async function answerOf(request: ClientRequest): Promise<HttpAnswer> {
  return wholeOf(await headOf(request));
}

/** The rest of an answer whose head has come. Rejects when it is cut. */
export async function wholeOf(response: IncomingMessage): Promise<HttpAnswer> {
  const chunks: Buffer[] = [];
  response.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
  await once(response, 'end');
  const { statusCode = 0, statusMessage = '', headers, rawHeaders } = response;
  return {
    status: statusCode,
    phrase: statusMessage,
    headers,
    rawHeaders: rawHeaders.flatMap((name, i) =>
      i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ''] as const] : [],
    ),
    body: Buffer.concat(chunks),
  };
}

/** A plain TCP connection to the public port, for what no HTTP client would send. */
export async function rawSocket(relay: TestRelay): Promise<Socket> {
  const socket = connect(relay.port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Writes bytes as they are and gives what comes back until the relay ends the connection. */
export async function rawExchange(relay: TestRelay, bytes: string): Promise<string> {
  const socket = await rawSocket(relay);
  let received = '';
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => {
    received += text;
  });
  socket.write(bytes, 'latin1');
  await once(socket, 'close');
  return received;
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes that look random and are the same every time. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Reason phrase without its tracking text. */
export function textOf({ phrase }: HttpAnswer): string {
  return phrase.replace(/\.? ?TrackingId:.*$/, '');
}

/** `GetRuntimeInformationAsync` of .NET. */
export async function readInformation(
  relay: TestRelay,
  path = 'hyco',
  token?: string,
): Promise<HttpAnswer> {
  return send(relay, `/${path}?api-version=2016-07`, {
    token: null,
    headers: {
      'X-PROCESS-AT': 'ServiceBus',
      ...(token === undefined ? {} : { Authorization: token }),
    },
  });
}

/** A request in raw bytes, with a token and a Host that fit. */
export function rawRequest(
  relay: TestRelay,
  requestLine: string,
  headers: readonly string[] = [],
): string {
  const lines = [
    requestLine,
    'Host: 127.0.0.1',
    `ServiceBusAuthorization: ${relay.token()}`,
    ...headers,
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}
