import { statusLineText } from './status-line.ts';
import { formatTimestamp } from './timestamps.ts';

/** Close codes that every client accepts: older ones take 1012 to 1014 for protocol errors. */
export type CloseCode = 1000 | 1001 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 1011;

/** Numeric codes of JSON error bodies. Source: protocol reference 4.4. */
const BODY_CODES = {
  gatewayTimeout: 1,
  internalServerError: 2,
  endpointNotFound: 3,
  tokenMissingOrInvalid: 4,
  forbidden: 5,
} as const;

export interface Refusal {
  /** Answer to a request or upgrade that has not been accepted yet. */
  readonly httpStatus: number;
  /** Close code for a WebSocket that is already open. */
  readonly closeCode: CloseCode;
  /** The number in a JSON error body; where Azure has none of its own, 5 for a client's fault, 2 for ours. */
  readonly code: number;
  /** Without a full stop. Texts that clients' tests and users know are Azure's (4.2). */
  readonly text: string;
  /** What stands between text and detail; `: ` unless given. */
  readonly beforeDetail?: string;
  /** Said as it stands, without tracking text. */
  readonly isBare?: boolean;
}

const TABLE = {
  'token-missing': {
    httpStatus: 401,
    closeCode: 1008,
    code: BODY_CODES.tokenMissingOrInvalid,
    text: 'MissingToken: The authorization header was not found',
  },
  'token-malformed': {
    httpStatus: 401,
    closeCode: 1008,
    code: BODY_CODES.tokenMissingOrInvalid,
    text: 'MalformedToken: The token is not a well-formed SharedAccessSignature',
  },
  'token-expired': {
    httpStatus: 401,
    closeCode: 1008,
    code: BODY_CODES.tokenMissingOrInvalid,
    text: 'ExpiredToken: The token is expired',
    beforeDetail: '. Expiration time: ',
  },
  'signature-invalid': {
    httpStatus: 401,
    closeCode: 1008,
    code: BODY_CODES.tokenMissingOrInvalid,
    text: 'InvalidSignature: The token has an invalid signature',
  },
  'audience-wrong': {
    httpStatus: 401,
    closeCode: 1008,
    code: BODY_CODES.tokenMissingOrInvalid,
    text: 'InvalidAudience: The authorization header contains a token with a wrong audience',
  },
  'right-missing': {
    httpStatus: 403,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'Authorization failed for specified action',
  },
  'endpoint-unknown': {
    httpStatus: 404,
    // On an open channel this means that the hybrid connection was deleted or disabled (4.6).
    closeCode: 1001,
    code: BODY_CODES.endpointNotFound,
    text: 'Endpoint does not exist',
  },
  'path-malformed': {
    httpStatus: 404,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'Endpoint does not exist: The path of the request is malformed',
  },
  'no-listener': {
    httpStatus: 404,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'There are no listeners connected for the endpoint',
  },
  'no-allowed-listener': {
    httpStatus: 404,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'None of the connected listeners meet the AllowedListeners/DisallowedListeners criteria',
  },
  'listeners-max': {
    httpStatus: 403,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'QuotaExceeded: MaximumListenersPerEndpoint: The endpoint has as many listeners as it may have',
  },
  'action-unknown': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'Unsupported action',
    beforeDetail: ' ',
  },
  'not-websocket': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'This endpoint is only for web-socket requests',
  },
  'upgrade-outside-hc': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'Web-socket requests must use a path that begins with /$hc/',
  },
  'handshake-malformed': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The web-socket handshake is malformed',
  },
  'request-malformed': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The request is malformed',
  },
  'address-unknown': {
    httpStatus: 403,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'Unknown Connection ID: The address is unknown, used or expired. Is the listener accepting too late?',
  },
  'status-code-invalid': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'sb-hc-statusCode must be an integer between 100 and 999',
  },
  rejected: {
    httpStatus: 410,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'Gone',
    // What a rejecting listener is told, word for word (3.3).
    isBare: true,
  },
  'listener-silent': {
    httpStatus: 504,
    closeCode: 1011,
    code: BODY_CODES.gatewayTimeout,
    text: 'The listener did not rendezvous to accept the request within the allotted time',
    beforeDetail: ' ',
  },
  'response-late': {
    httpStatus: 504,
    closeCode: 1011,
    code: BODY_CODES.gatewayTimeout,
    text: 'The request was routed to the listener but the listener did not respond in the required time',
  },
  'listener-lost': {
    httpStatus: 502,
    closeCode: 1011,
    code: BODY_CODES.internalServerError,
    text: 'The request was routed to the listener but the listener went away before it answered',
  },
  'response-invalid': {
    httpStatus: 502,
    closeCode: 1002,
    code: BODY_CODES.internalServerError,
    text: 'The listener sent a response that cannot be relayed',
  },
  'method-unsupported': {
    httpStatus: 405,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The method is not relayed',
  },
  'body-stalled': {
    httpStatus: 408,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'The body of the request did not arrive in the required time',
  },
  'senders-max': {
    httpStatus: 503,
    closeCode: 1008,
    code: BODY_CODES.internalServerError,
    text: 'QuotaExceeded: The relay has as many sender connections as it may have; try again later',
  },
  overloaded: {
    httpStatus: 503,
    closeCode: 1011,
    code: BODY_CODES.internalServerError,
    text: 'The relay is busy; try again later',
  },
  draining: {
    httpStatus: 503,
    closeCode: 1001,
    code: BODY_CODES.internalServerError,
    text: 'The relay is shutting down; connect again',
  },
  // Of the web portal: what listeners serve must not have its origin.
  'portal-host': {
    httpStatus: 404,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'This host serves the web portal only: nothing is relayed here, use another host of this relay',
  },
  'service-worker': {
    httpStatus: 403,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text:
      'Service workers are not relayed here, because they could take over the web portal, which has the same origin: ' +
      'give it another host with --portal-host',
  },
  // Long-poll sessions (LONG-POLL.md). The names are read by clients.
  'session-unknown': {
    httpStatus: 404,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'There is no such long-poll session: its id is not one that this relay gave out',
  },
  'session-gone': {
    httpStatus: 410,
    closeCode: 1008,
    code: BODY_CODES.endpointNotFound,
    text: 'The long-poll session is over; open a new one',
  },
  'session-superseded': {
    httpStatus: 409,
    closeCode: 1008,
    code: BODY_CODES.forbidden,
    text: 'A newer poll of this session has taken over',
  },
  'sessions-max': {
    httpStatus: 503,
    closeCode: 1008,
    code: BODY_CODES.internalServerError,
    text: 'QuotaExceeded: The relay has as many long-poll sessions as it may have; try again later',
  },
  'poll-malformed': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The request to the long-poll session is malformed',
  },
  'sequence-gap': {
    httpStatus: 409,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'Frames are missing before this batch; send on from the one behind ack',
  },
  'credit-exceeded': {
    httpStatus: 409,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The batch holds more bytes than the session has room for; wait for more credit',
  },
  'frames-malformed': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'The frames do not make messages: a continuation without a start, or a frame after Close',
  },
  'ack-unknown': {
    httpStatus: 400,
    closeCode: 1002,
    code: BODY_CODES.forbidden,
    text: 'ack names a frame that was never sent',
  },
  'batch-too-large': {
    httpStatus: 413,
    closeCode: 1009,
    code: BODY_CODES.forbidden,
    text: 'The batch is too large; post it in parts',
  },
  internal: {
    httpStatus: 500,
    closeCode: 1011,
    code: BODY_CODES.internalServerError,
    text: 'The relay failed to process the request',
  },
} as const satisfies Record<string, Refusal>;

/** A label of the table. Never changes once released, because dashboards count it. */
export type RefusalReason = keyof typeof TABLE;

/**
 * Every way the relay says no. Statuses, close codes, log fields and metric labels are read from here
 * and nowhere else.
 */
export const REFUSALS: Readonly<Record<RefusalReason, Refusal>> = TABLE;

export function isRefusalReason(text: string): text is RefusalReason {
  return Object.hasOwn(REFUSALS, text);
}

/** The parts of a path and a host that a text repeats; longer ones are cut. */
const SHOWN_CHARS_MAX = 300;

/**
 * `{message}. TrackingId:{id}, SystemTracker:sb://{host}/{path}, Timestamp:{time}`: what a refused
 * peer is told, as reason phrase of the status line and as message of the body (4.1, 4.4). Printable
 * ASCII, one line. `path` is the raw path without its leading slash and, as it may hold a token,
 * without its query; `trackingId` a UUID, never a whole rendezvous id.
 */
export function refusalText(
  reason: RefusalReason,
  about: {
    readonly detail?: string;
    readonly trackingId: string;
    readonly host: string;
    readonly path: string;
    readonly wallMs: number;
  },
): string {
  const { text, beforeDetail = ': ', isBare = false } = REFUSALS[reason];
  if (isBare) return text;
  const detail =
    about.detail === undefined || about.detail === '' ? '' : beforeDetail + shown(about.detail);
  const stop = /[.!?]$/.test(text + detail) ? '' : '.';
  const tracker = `sb://${shown(about.host)}/${shown(about.path)}`;
  return statusLineText(
    `${text}${detail}${stop} TrackingId:${about.trackingId}, SystemTracker:${tracker}, ` +
      `Timestamp:${formatTimestamp(about.wallMs)}`,
  );
}

function shown(text: string): string {
  return text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}...` : text;
}

/** The JSON body of an HTTP refusal; `text` as given by `refusalText`. */
export function refusalBody(reason: RefusalReason, text: string): string {
  return JSON.stringify({ error: { code: REFUSALS[reason].code, message: text } });
}

/** Longest reason of a close frame in bytes of UTF-8 (RFC 6455, 5.5: 125 less the code). */
const CLOSE_REASON_BYTES_MAX = 123;

/**
 * Shortens a text to what a close frame can hold, at most 123 bytes of UTF-8. Of a refusal's text the
 * message and the tracking id are kept, the rest goes first.
 */
export function closeReason(text: string): string {
  const whole = cutToBytes(text, CLOSE_REASON_BYTES_MAX);
  if (whole.length === text.length) return text;
  const trackingAt = text.indexOf('TrackingId:');
  if (trackingAt === -1) return whole;
  const end = text.indexOf(',', trackingAt);
  const tracking = cutToBytes(
    end === -1 ? text.slice(trackingAt) : text.slice(trackingAt, end),
    CLOSE_REASON_BYTES_MAX,
  );
  const messageBytesMax = CLOSE_REASON_BYTES_MAX - bytesOf(tracking);
  const message = text.slice(0, trackingAt);
  const kept = cutToBytes(message, messageBytesMax);
  if (kept.length === message.length) return message + tracking;
  return `${cutToBytes(message, Math.max(0, messageBytesMax - 1)).trimEnd()} ${tracking}`.trimStart();
}

/** The longest start of a text that fits into so many bytes of UTF-8, never half a character. */
function cutToBytes(text: string, bytesMax: number): string {
  let bytes = 0;
  let end = 0;
  for (const character of text) {
    bytes += bytesOf(character);
    if (bytes > bytesMax) return text.slice(0, end);
    end += character.length;
  }
  return text;
}

function bytesOf(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
  }
  return bytes;
}
