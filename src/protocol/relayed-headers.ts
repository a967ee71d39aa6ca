// Which HTTP headers cross the relay, in which spelling, and which belong to one hop only.
// Source: protocol reference 3.3, 3.5, 3.6 and 5.1. Runs once per handshake or request.
import { HEADER_SPELLINGS } from './header-spellings.ts';
import { leadingUuid } from './ids.ts';
import { splitSetCookie } from './set-cookie.ts';
import { statusLineText } from './status-line.ts';
import { STATUS_PHRASES } from './status-phrases.ts';

/** Headers as a transport reads them: names in lower case, one pair per line of the request. */
export type HeaderPairs = readonly (readonly [string, string])[];

/** Spellings worked out so far are kept, within bounds: senders choose the names. */
const SPELLINGS_KEPT_MAX = 1_000;
const SPELLING_KEPT_CHARS_MAX = 64;
const spellings = new Map(HEADER_SPELLINGS);

/**
 * The spelling in which clients look a header up: Java listeners compare names exactly, while the
 * transport hands out lower case only.
 */
export function canonicalHeaderName(lower: string): string {
  const known = spellings.get(lower);
  if (known !== undefined) return known;
  const spelling = lower.replaceAll(/(?:^|-)[a-z]/g, start => start.toUpperCase());
  if (spellings.size < SPELLINGS_KEPT_MAX && lower.length <= SPELLING_KEPT_CHARS_MAX) {
    spellings.set(lower, spelling);
  }
  return spelling;
}

/** Headers of one connection, not of the message: they end at the relay. */
const HOP_HEADERS =
  'connection content-length te trailer transfer-encoding upgrade close keep-alive proxy-connection'.split(
    ' ',
  );

const STRIPPED_FROM_REQUESTS: ReadonlySet<string> = new Set([
  ...HOP_HEADERS,
  // The relay itself answers 100 and reads the body, so nothing is left to expect.
  'expect',
  'servicebusauthorization',
]);
const STRIPPED_FROM_RESPONSES: ReadonlySet<string> = new Set(HOP_HEADERS);

/** The routing headers of 5.1 speak to the relay. */
const ROUTING_PREFIX = 'microsoft-relay-';

/**
 * `connectHeaders` of an accept message: everything the sender's handshake had, upgrade headers
 * included (Node listeners reject without `Sec-WebSocket-Key`), but for the relay's own token.
 */
export function connectHeadersOf(headers: HeaderPairs): Record<string, string> {
  const relayed: Record<string, string> = {};
  for (const [name, value] of headers) {
    if (name !== 'servicebusauthorization') add(relayed, name, value);
  }
  return relayed;
}

/**
 * `requestHeaders` of a request message. `viaHost` is the namespace's host as the sender wrote it;
 * `stripAuthorization` says that `Authorization` was the relay's token rather than the listener's.
 */
export function requestHeadersOf(
  headers: HeaderPairs,
  options: { readonly viaHost: string; readonly stripAuthorization: boolean },
): Record<string, string> {
  const listed = listedInConnection(headers);
  const relayed: Record<string, string> = {};
  for (const [name, value] of headers) {
    if (STRIPPED_FROM_REQUESTS.has(name) || name.startsWith(ROUTING_PREFIX)) continue;
    if (name === 'authorization' && options.stripAuthorization) continue;
    // No sender may take the Host away by calling it a header of the connection.
    if (listed !== undefined && listed.has(name) && name !== 'host') continue;
    add(relayed, name, value);
  }
  add(relayed, 'via', `1.1 ${options.viaHost}`);
  return relayed;
}

/** Repeated headers become one text: listeners take one string per name. */
function add(record: Record<string, string>, lower: string, value: string): void {
  // The one legal name that an object's prototype answers to, and assignment would lose.
  if (lower === '__proto__') return;
  const name = canonicalHeaderName(lower);
  const before = record[name];
  record[name] =
    before === undefined ? value : `${before}${lower === 'cookie' ? '; ' : ', '}${value}`;
}

/** Names that a `Connection` header declares as its own, in lower case. */
function listedInConnection(headers: HeaderPairs): ReadonlySet<string> | undefined {
  let listed: Set<string> | undefined;
  for (const [name, value] of headers) {
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue;
    if (value === 'keep-alive' || value === 'close') continue;
    listed ??= new Set();
    for (const token of value.split(',')) listed.add(token.trim().toLowerCase());
  }
  return listed;
}

/** What of a listener's response headers is written to the sender. */
export interface RelayedResponseHeaders {
  /** In order, names as the listener wrote them; safe to write. */
  readonly headers: readonly (readonly [string, string])[];
  /** As declared by the listener: the sender of a HEAD may be told, all others get our own framing. */
  readonly contentLength?: number;
  /** Java's tests want a type on every response with a body; the caller supplies one where it lacks. */
  readonly hasContentType: boolean;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** ASCII control characters but the tab (written as what is not one): they could change how a response is read. */
const UNSAFE_VALUE = /[^\t -~\u0080-\uffff]/;

/**
 * Response headers that go back to the sender: without framing (which ours replaces), with `Via`
 * (which tells a listener's answers from our own refusals), cookies one by one.
 *
 * `invalid` names the first header that cannot be written: its name is no token, or its value holds a
 * line break or another control character.
 */
export function responseHeadersOf(
  pairs: readonly (readonly [string, string])[],
  options: { readonly viaHost: string },
): RelayedResponseHeaders | { readonly invalid: string } {
  const listed = listedInConnection(pairs);
  const headers: (readonly [string, string])[] = [];
  let via = '';
  let contentLength: number | undefined;
  let hasContentType = false;
  for (const [name, value] of pairs) {
    if (!TOKEN.test(name) || UNSAFE_VALUE.test(value)) return { invalid: name };
    const lower = name.toLowerCase();
    if (STRIPPED_FROM_RESPONSES.has(lower)) {
      if (lower === 'content-length') contentLength ??= lengthOf(value);
    } else if (listed !== undefined && listed.has(lower)) {
      continue;
    } else if (lower === 'via') {
      via += `${value.trim()}, `;
    } else if (lower === 'set-cookie') {
      for (const cookie of splitSetCookie(value)) headers.push([name, cookie]);
    } else {
      hasContentType ||= lower === 'content-type';
      headers.push([name, value.trim()]);
    }
  }
  headers.push(['Via', `${via}1.1 ${options.viaHost}`]);
  return contentLength === undefined
    ? { headers, hasContentType }
    : { headers, contentLength, hasContentType };
}

function lengthOf(value: string): number | undefined {
  return /^\d{1,15}$/.test(value.trim()) ? Number(value) : undefined;
}

/**
 * The reason phrase for a status line: the description in ASCII without control characters and of
 * bounded length, or the standard phrase when there is nothing left of it.
 */
export function reasonPhrase(status: number, description: string): string {
  const text = description === '' ? '' : statusLineText(description);
  return text === '' ? (STATUS_PHRASES[status] ?? 'Unknown') : text;
}

/** Which listeners a request may go to, by the UUIDs of their `sb-hc-id` in lower case. */
export interface ListenerFilter {
  /** Only these, when given; empty: none. */
  readonly allowed?: ReadonlySet<string>;
  readonly disallowed?: ReadonlySet<string>;
}

const NO_FILTER: ListenerFilter = {};

/** Reads the routing headers of 5.1. Entries that are no UUID name no listener and are dropped. */
export function listenerFilterOf(headers: HeaderPairs): ListenerFilter {
  let allowed: Set<string> | undefined;
  let disallowed: Set<string> | undefined;
  for (const [name, value] of headers) {
    if (!name.startsWith(ROUTING_PREFIX)) continue;
    if (name === 'microsoft-relay-allowedlisteners') allowed = addUuids(allowed, value);
    if (name === 'microsoft-relay-disallowedlisteners') disallowed = addUuids(disallowed, value);
  }
  if (allowed === undefined && disallowed === undefined) return NO_FILTER;
  return {
    ...(allowed === undefined ? {} : { allowed }),
    ...(disallowed === undefined ? {} : { disallowed }),
  };
}

function addUuids(uuids: Set<string> | undefined, list: string): Set<string> {
  const all = uuids ?? new Set<string>();
  for (const entry of list.split(',')) {
    const uuid = leadingUuid(entry.trim());
    if (uuid !== undefined) all.add(uuid);
  }
  return all;
}
