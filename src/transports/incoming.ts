import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import { parseRelayQuery } from '../protocol/relay-url.ts';
import { parseRequestPath, type RequestPath } from '../protocol/request-path.ts';
import type { RelayRequest } from '../relay/ports.ts';
import { peerOf, type PeerSources } from './peers.ts';
import { portalFault, type PortalFault, type PortalGuard } from './portal-guard.ts';
import { header, snapshot } from './request-snapshot.ts';

/** How requests are read, the same for every route. */
export interface IncomingOptions {
  readonly encodedSlashes: 'refuse' | 'pass';
  /** `ws://host` or `wss://host`, in place of what the peer used. */
  readonly publicOrigin: string | undefined;
  readonly peers: PeerSources;
  /** What keeps the web portal apart from what listeners serve; undefined: there is none here. */
  readonly portal: PortalGuard | undefined;
}

/** A request as the core decides upon it, or with a `fault` that refuses it whatever it wants. */
export interface Incoming {
  readonly request: RelayRequest;
  readonly method: string;
  readonly fault: 'path-malformed' | 'handshake-malformed' | PortalFault | undefined;
}

/** `host`, `host:port`, `[v6]:port`: what may go into an address and a log as it stands. */
const HOST = /^[\w.-]+(?::\d{1,5})?$|^\[[\da-f:.]+\](?::\d{1,5})?$/i;

const NO_PATH: RequestPath = { kind: 'http', rawPath: '', segments: [] };

/** Call first in every handler: what is read here does not exist afterwards. */
export function readIncoming(
  response: HttpResponse,
  request: HttpRequest,
  options: IncomingOptions,
): Incoming {
  const { method, url, query, headers } = snapshot(request);
  const peer = peerOf(response, headers, options.peers);
  const path = parseRequestPath(url, { encodedSlashes: options.encodedSlashes });
  const sentHost = header(headers, 'host') ?? '';
  const isHostWellFormed = HOST.test(sentHost);
  const host = isHostWellFormed ? sentHost : 'unknown';
  return {
    method,
    fault:
      portalFault(options.portal, headers) ??
      (path === undefined
        ? 'path-malformed'
        : isHostWellFormed
          ? undefined
          : 'handshake-malformed'),
    request: {
      host,
      origin: options.publicOrigin ?? `${peer.isSecure ? 'wss' : 'ws'}://${host}`,
      path: path ?? NO_PATH,
      query: parseRelayQuery(query),
      headers,
      remote: peer.remote,
    },
  };
}
