import { request as httpRequest, STATUS_CODES, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Clock } from '../../base/clock.ts';
import type { HeaderRecord, RemoteEndpoint } from '../../protocol/control-messages.ts';
import { encodeIllegalInPath, encodeIllegalInQuery } from '../../protocol/uri-text.ts';
import type { Answer, RelayedRequest } from '../../client/answer.ts';
import { dialWebSocket } from '../../client/dial-websocket.ts';
import type { FrameChannel } from '../../client/frame-channel.ts';
import { RelayError } from '../../client/relay-error.ts';
import { Routes } from '../../client/routes.ts';
import type { SenderOffer } from '../../client/sender-offer.ts';
import { spliceChannels } from '../../client/splice-channels.ts';
import { messageOf } from '../command-error.ts';
import { wordsOf } from '../refusal-advice.ts';
import { pathBelow, type ListenMode } from './listen-mode.ts';

export interface ForwardOptions {
  /** Where to: http, https, ws or wss; the scheme's twin serves the other kind of sender. */
  readonly to: URL;
  /** Name of the hybrid connection, which is cut off the path unless `keepPath`. */
  readonly hybridConnection: string;
  readonly keepPath: boolean;
  readonly clock: Clock;
  readonly report: (text: string) => void;
}

/** How long the target may take for a WebSocket handshake; the sender's own wait is 30 s. */
const TARGET_TIMEOUT_MS = 15_000;
/** End at each hop; the handshake's own are made anew. `Host` becomes the target's. */
const HOP_HEADERS: ReadonlySet<string> = new Set(
  'connection keep-alive proxy-connection te trailer transfer-encoding upgrade host'.split(' '),
);

/** Hands requests and WebSockets on to a server that this machine can reach. */
export function forwardMode(options: ForwardOptions): ListenMode {
  return {
    accept: offer => forwardSender(offer, options),
    answer: request => forwardRequest(request, options),
  };
}

const NO_ANSWER: Answer = {
  status: 502,
  reason: 'Bad Gateway',
  headers: { 'Content-Type': 'text/plain' },
  body: 'The listener could not get an answer\n',
};

async function forwardRequest(request: RelayedRequest, options: ForwardOptions): Promise<Answer> {
  const { method, target, headers, body, hasBody, signal, remote } = request;
  const url = targetUrl(target, options, 'http');
  const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const asked = new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = open(url, { method, headers: forwardedHeaders(headers, remote), signal });
    outgoing.once('response', resolve);
    outgoing.on('error', error => {
      reject(new Error(`Cannot reach ${url.origin}: ${messageOf(error)}`, { cause: error }));
    });
    if (hasBody) body.on('error', error => outgoing.destroy(error)).pipe(outgoing);
    else outgoing.end();
  });
  let response: IncomingMessage;
  try {
    response = await asked;
  } catch (error) {
    options.report(messageOf(error));
    return NO_ANSWER;
  }
  const { statusCode: status = 502, statusMessage: reason = '' } = response;
  const isBodyless = method === 'HEAD' || status === 204 || status === 304;
  if (isBodyless) response.resume();
  return {
    status,
    ...(reason === '' || reason === STATUS_CODES[status] ? {} : { reason }),
    headers: returnedHeaders(response),
    body: isBodyless ? undefined : response,
  };
}

async function forwardSender(offer: SenderOffer, options: ForwardOptions): Promise<void> {
  const { clock, report } = options;
  const [path = '', query] = offer.target.split(/\?(.*)/s);
  const decoded = decodePath(path);
  const url = targetUrl(query === undefined ? decoded : `${decoded}?${query}`, options, 'ws');
  let target: FrameChannel;
  try {
    target = await dialTarget(url.href, {
      clock,
      headers: handshakeHeaders(offer.headers, offer.remote),
      protocols: offer.protocols,
      timeoutMs: TARGET_TIMEOUT_MS,
    });
  } catch (error) {
    report(`Cannot open ${url.origin}${url.pathname}: ${targetFailure(error)}`);
    const given = error instanceof RelayError ? error.status : undefined;
    const status = given !== undefined && given >= 400 ? given : 502;
    await offer.reject(status, STATUS_CODES[status] ?? 'Refused');
    return;
  }
  try {
    const sender = await offer.acceptChannel({ protocol: target.protocol });
    spliceChannels(sender, target, () => undefined);
  } catch (error) {
    target.destroy();
    throw error;
  }
}

/** The target is a server that this machine can reach, whatever way leads to the relay. */
const dialTarget = dialWebSocket(new Routes({ proxy: false }));

function targetFailure(error: unknown): string {
  if (!(error instanceof RelayError)) return messageOf(error);
  const { cause, status, reason } = error;
  if (status !== undefined) return `${status} ${reason ?? ''}`.trimEnd();
  return cause === undefined ? wordsOf(error) : messageOf(cause);
}

/** The target's address for a path and query of a sender. */
function targetUrl(pathAndQuery: string, options: ForwardOptions, kind: 'http' | 'ws'): URL {
  const queryAt = pathAndQuery.indexOf('?');
  const path = queryAt === -1 ? pathAndQuery : pathAndQuery.slice(0, queryAt);
  const query = queryAt === -1 ? '' : pathAndQuery.slice(queryAt + 1);
  const kept = options.keepPath ? path : pathBelow(options.hybridConnection, path);
  const base = options.to.pathname.replace(/\/$/, '');
  const secure = options.to.protocol === 'https:' || options.to.protocol === 'wss:' ? 's' : '';
  const url = new URL(`${kind}${secure}://${options.to.host}`);
  url.pathname = `${base}${encodeIllegalInPath(kept)}`;
  url.search = encodeIllegalInQuery(query);
  return url;
}

function decodePath(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

function forwardedHeaders(
  headers: HeaderRecord,
  remote: RemoteEndpoint | undefined,
): Record<string, string> {
  const kept = Object.entries(headers).filter(([name]) => !HOP_HEADERS.has(name.toLowerCase()));
  const host = Object.entries(headers).find(([name]) => name.toLowerCase() === 'host')?.[1];
  return {
    ...Object.fromEntries(kept),
    ...(host === undefined ? {} : { 'X-Forwarded-Host': host }),
    ...(remote === undefined ? {} : { 'X-Forwarded-For': remote.address }),
  };
}

function handshakeHeaders(
  headers: HeaderRecord,
  remote: RemoteEndpoint | undefined,
): Record<string, string> {
  const entries = Object.entries(forwardedHeaders(headers, remote));
  return Object.fromEntries(
    entries.filter(([name]) => !name.toLowerCase().startsWith('sec-websocket-')),
  );
}

/** Headers of an answer, repeated ones as lists; without those that end at this hop. */
function returnedHeaders(response: IncomingMessage): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, values = []] of Object.entries(response.headersDistinct)) {
    if (HOP_HEADERS.has(name)) continue;
    const [first = '', ...more] = values;
    headers[name] = more.length === 0 ? first : [first, ...more];
  }
  return headers;
}
