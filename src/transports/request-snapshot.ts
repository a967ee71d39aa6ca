import type { HttpRequest } from 'uWebSockets.js';
import type { HeaderPairs } from '../protocol/relayed-headers.ts';

/** The part of a request that outlives its handler: plain values, safe at any time. */
export interface RequestSnapshot {
  /** As sent: `GET`, `PROPFIND`, … */
  readonly method: string;
  /** Raw request target without the query. */
  readonly url: string;
  /** Raw, without the `?`. */
  readonly query: string;
  readonly headers: HeaderPairs;
}

/** Call first in every handler: uWebSockets.js frees the request when the handler returns. */
export function snapshot(request: HttpRequest): RequestSnapshot {
  const headers: [string, string][] = [];
  request.forEach((name, value) => headers.push([name, value]));
  // The addon gives undefined where there is no `?`, which its types deny.
  const query: string | undefined = request.getQuery();
  return {
    method: request.getCaseSensitiveMethod(),
    url: request.getUrl(),
    query: query ?? '',
    headers,
  };
}

/** The first field of that name, undefined when there is none. */
export function header(headers: HeaderPairs, lowerCaseName: string): string | undefined {
  for (const [name, value] of headers) if (name === lowerCaseName) return value;
  return undefined;
}
