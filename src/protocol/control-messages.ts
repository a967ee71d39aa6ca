// The JSON messages between relay and listener, seen from the relay. Source: protocol reference 3.2 to 3.8.
import type { RendezvousId } from './ids.ts';
import { utf8Bytes } from './uri-text.ts';

/**
 * Longest JSON message that a listener surely reads, in bytes of UTF-8: .NET has a fixed buffer of
 * 64 KiB and never finishes on more. A request whose message is longer goes by rendezvous.
 */
export const CONTROL_MESSAGE_BYTES_MAX = 65_535;

/** Longest body, in bytes, that follows its JSON message on the control channel. */
export const CONTROL_BODY_BYTES_MAX = 65_536;

export function fitsControlChannel(json: string): boolean {
  // A UTF-16 unit is at most three bytes of UTF-8, which settles nearly all messages.
  if (json.length * 3 <= CONTROL_MESSAGE_BYTES_MAX) return true;
  return json.length <= CONTROL_MESSAGE_BYTES_MAX && utf8Bytes(json) <= CONTROL_MESSAGE_BYTES_MAX;
}

/** Names to values, one string each: Java listeners drop their channel on anything else. */
export type HeaderRecord = Readonly<Record<string, string>>;

/** Where a sender came from. */
export interface RemoteEndpoint {
  readonly address: string;
  readonly port: number;
}

/** Tells a listener that a sender's WebSocket waits at `address`. */
export function formatAccept(accept: {
  readonly address: string;
  readonly id: RendezvousId;
  readonly connectHeaders: HeaderRecord;
  readonly remoteEndpoint: RemoteEndpoint;
}): string {
  const { address, id, connectHeaders, remoteEndpoint } = accept;
  return JSON.stringify({ accept: { address, id, connectHeaders, remoteEndpoint } });
}

/**
 * Tells a listener of an HTTP request in full. `body` says that one binary message follows; it is
 * written even when false, because .NET and Java take a message without it for a mere pointer.
 */
export function formatRequest(request: {
  readonly address: string;
  readonly id: RendezvousId;
  readonly requestTarget: string;
  readonly method: string;
  readonly requestHeaders: HeaderRecord;
  readonly remoteEndpoint: RemoteEndpoint;
  readonly body: boolean;
}): string {
  const { address, id, requestTarget, method, remoteEndpoint, requestHeaders, body } = request;
  return JSON.stringify({
    request: { address, id, requestTarget, method, remoteEndpoint, requestHeaders, body },
  });
}

/** Tells a listener to fetch a request at `address`. Holds nothing else, as listeners demand. */
export function formatRequestPointer(address: string): string {
  return JSON.stringify({ request: { address } });
}

/** What a listener says on its control channel or on a request's rendezvous channel. */
export type ListenerMessage =
  | {
      readonly type: 'response';
      /** The `id` of the request that is answered. */
      readonly requestId: string;
      /** An integer, but not yet a status that HTTP allows; 0 when there was none to read. */
      readonly statusCode: number;
      /** As the listener wrote it, '' when it wrote none; not yet fit for a status line. */
      readonly statusDescription: string;
      /** One pair per value, names as written; not yet checked. */
      readonly responseHeaders: readonly (readonly [string, string])[];
      /** Whether one binary message follows. */
      readonly body: boolean;
    }
  | { readonly type: 'renewToken'; readonly token: string }
  | { readonly type: 'unreadable'; readonly why: string };

/** Parses one text message of a listener. Never throws, whatever the text. */
export function parseListenerMessage(text: string): ListenerMessage {
  const message = asRecord(parseJson(text));
  if (message === undefined) return unreadable('The message is not a JSON object');

  const response = asRecord(message['response']);
  if (response !== undefined) {
    const requestId = response['requestId'];
    if (typeof requestId !== 'string' || requestId === '') {
      return unreadable("'response.requestId' is required");
    }
    const description = response['statusDescription'];
    return {
      type: 'response',
      requestId,
      statusCode: statusCodeOf(response['statusCode']),
      statusDescription: typeof description === 'string' ? description : '',
      responseHeaders: headerPairsOf(response['responseHeaders']),
      body: response['body'] === true,
    };
  }

  const renewToken = asRecord(message['renewToken']);
  if (renewToken !== undefined) {
    const token = renewToken['token'];
    if (typeof token === 'string') return { type: 'renewToken', token };
    return unreadable("'renewToken.token' is required");
  }
  return unreadable("'response' or 'renewToken' was expected");
}

/** Numbers, and numbers written as text (the protocol guide's own sample); 0 for anything else. */
function statusCodeOf(value: unknown): number {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : 0;
  return typeof value === 'string' && /^\d{1,4}$/.test(value) ? Number(value) : 0;
}

/** Values may be numbers (hyco-https) or arrays (several of one name); null and objects are skipped. */
function headerPairsOf(value: unknown): readonly (readonly [string, string])[] {
  const record = asRecord(value);
  if (record === undefined) return [];
  const pairs: (readonly [string, string])[] = [];
  for (const name in record) {
    const held = record[name];
    if (typeof held === 'string') {
      pairs.push([name, held]);
    } else {
      for (const item of Array.isArray(held) ? held : [held]) {
        if (isScalar(item)) pairs.push([name, String(item)]);
      }
    }
  }
  return pairs;
}

function isScalar(value: unknown): value is string | number | boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
}

function unreadable(why: string): { readonly type: 'unreadable'; readonly why: string } {
  return { type: 'unreadable', why };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return isRecord(value) ? value : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What the relay says to a listener, read by the client library and by tests. */
export type ServiceMessage =
  | {
      readonly type: 'accept';
      readonly address: string;
      readonly id: string;
      readonly connectHeaders: HeaderRecord;
      readonly remoteEndpoint: RemoteEndpoint | undefined;
    }
  | {
      readonly type: 'request';
      /** Undefined in a request that came over its own rendezvous without one. */
      readonly address: string | undefined;
      readonly id: string;
      readonly requestTarget: string;
      readonly method: string;
      readonly requestHeaders: HeaderRecord;
      readonly remoteEndpoint: RemoteEndpoint | undefined;
      readonly body: boolean;
    }
  | { readonly type: 'requestPointer'; readonly address: string }
  | { readonly type: 'unreadable'; readonly why: string };

/** Parses one text message of the relay. Never throws, whatever the text. */
export function parseServiceMessage(text: string): ServiceMessage {
  const message = asRecord(parseJson(text));
  if (message === undefined) return unreadable('The message is not a JSON object');

  const accept = asRecord(message['accept']);
  if (accept !== undefined) {
    const { address, id } = accept;
    if (typeof address !== 'string' || typeof id !== 'string') {
      return unreadable("'accept.address' and 'accept.id' are required");
    }
    const connectHeaders = headerRecordOf(accept['connectHeaders']);
    const remoteEndpoint = remoteEndpointOf(accept['remoteEndpoint']);
    return { type: 'accept', address, id, connectHeaders, remoteEndpoint };
  }

  const request = asRecord(message['request']);
  if (request === undefined) return unreadable("'accept' or 'request' was expected");
  const { address, id, method, requestTarget } = request;
  if (typeof method !== 'string') {
    if (typeof address !== 'string') return unreadable("'request.address' is required");
    return { type: 'requestPointer', address };
  }
  if (typeof id !== 'string' || typeof requestTarget !== 'string') {
    return unreadable("'request.id' and 'request.requestTarget' are required");
  }
  return {
    type: 'request',
    address: typeof address === 'string' ? address : undefined,
    id,
    requestTarget,
    method,
    requestHeaders: headerRecordOf(request['requestHeaders']),
    remoteEndpoint: remoteEndpointOf(request['remoteEndpoint']),
    body: request['body'] === true,
  };
}

function headerRecordOf(value: unknown): HeaderRecord {
  const joined = new Map<string, string>();
  for (const [name, item] of headerPairsOf(value)) {
    const before = joined.get(name);
    joined.set(name, before === undefined ? item : `${before}, ${item}`);
  }
  return Object.fromEntries(joined);
}

function remoteEndpointOf(value: unknown): RemoteEndpoint | undefined {
  const endpoint = asRecord(value);
  const address = endpoint?.['address'];
  const port = endpoint?.['port'];
  return typeof address === 'string' && typeof port === 'number' ? { address, port } : undefined;
}

/** A listener's answer to a request; a body, if said to follow, is the next binary message. */
export function formatResponse(response: {
  readonly requestId: string;
  readonly statusCode: number;
  readonly statusDescription?: string;
  readonly responseHeaders: Readonly<Record<string, string | readonly string[]>>;
  readonly body: boolean;
}): string {
  const { requestId, statusCode, statusDescription, responseHeaders, body } = response;
  return JSON.stringify({
    response: { requestId, statusCode, statusDescription, responseHeaders, body },
  });
}

/** A listener's new token for its control channel; the relay answers only by closing when it is bad. */
export function formatRenewToken(token: string): string {
  return JSON.stringify({ renewToken: { token } });
}
