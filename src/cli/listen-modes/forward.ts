import { request as httpRequest, STATUS_CODES, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Clock } from '../../base/clock.ts';
import type { HeaderRecord, RemoteEndpoint } from '../../protocol/control-messages.ts';
import { parseRelayQuery } from '../../protocol/relay-url.ts';
import { encodeIllegalInPath, encodeIllegalInQuery } from '../../protocol/uri-text.ts';
import { messageOf } from '../command-error.ts';
import type { Answer, RelayedRequest } from '../relay-client/answer.ts';
import type { Accept } from '../relay-client/control-link.ts';
import { dial, HandshakeRefused, type FrameSocket } from '../relay-client/frame-socket.ts';
import { spliceSockets } from '../relay-client/splice-sockets.ts';
import { offeredProtocols, pathBelow, rejectSender, type ListenMode } from './listen-mode.ts';

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
    accept: accept => forwardSender(accept, options),
    answer: request => forwardRequest(request, options),
  };
}

async function forwardRequest(request: RelayedRequest, options: ForwardOptions): Promise<Answer> {
  const { method, target, headers, body, hasBody, signal, remote } = request;
  const url = targetUrl(target, options, 'http');
  const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = open(url, { method, headers: forwardedHeaders(headers, remote), signal });
    outgoing.once('response', resolve);
    outgoing.on('error', error => {
      reject(new Error(`Cannot reach ${url.origin}: ${messageOf(error)}`, { cause: error }));
    });
    if (hasBody) body.on('error', error => outgoing.destroy(error)).pipe(outgoing);
    else outgoing.end();
  });
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

async function forwardSender(accept: Accept, options: ForwardOptions): Promise<void> {
  const { clock, report } = options;
  const address = new URL(accept.address);
  const path = decodePath(address.pathname.replace(/^\/\$hc/i, ''));
  const { userQuery } = parseRelayQuery(address.search.replace(/^\?/, ''));
  const url = targetUrl(userQuery === '' ? path : `${path}?${userQuery}`, options, 'ws');
  let target: FrameSocket;
  try {
    target = await dial(url.href, {
      clock,
      headers: handshakeHeaders(accept.connectHeaders, accept.remoteEndpoint),
      protocols: offeredProtocols(accept),
      timeoutMs: TARGET_TIMEOUT_MS,
    });
  } catch (error) {
    report(`Cannot open ${url.origin}${url.pathname}: ${messageOf(error)}`);
    const status = error instanceof HandshakeRefused && error.status >= 400 ? error.status : 502;
    await rejectSender(accept, { clock, status, reason: STATUS_CODES[status] ?? 'Refused' });
    return;
  }
  try {
    const protocols = target.protocol === '' ? [] : [target.protocol];
    const sender = await dial(accept.address, { clock, protocols });
    spliceSockets(sender, target, () => undefined);
  } catch (error) {
    target.destroy();
    throw error;
  }
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
