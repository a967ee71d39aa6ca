/**
 * Why something with the relay did not work. Codes are for programs, messages for people: they say
 * what to do.
 *
 * - `EndpointNotFound`: no such hybrid connection, or nobody listens there.
 * - `Unauthorized`: the token is missing, malformed, expired, or signed with another key.
 * - `Forbidden`: the token is good, but lacks the right.
 * - `QuotaExceeded`: too many listeners, senders or sessions.
 * - `Rejected`: the listener turned the sender away; `status` and `reason` are its own words.
 * - `Timeout`: the listener, or the relay, did not answer in time.
 * - `Unavailable`: the relay is shutting down, busy, or failed; trying again helps.
 * - `ProxyRefused`: a proxy on the way refused, or wants credentials (407).
 * - `TlsFailed`: the certificate is not trusted, or does not fit the name.
 * - `ConnectionFailed`: no connection: name, network, port.
 * - `ConnectionLost`: it was open and broke.
 * - `ProtocolError`: the other end does not speak the protocol, or refused what we said.
 * - `Aborted`: an `AbortSignal` of the caller.
 * - `Closed`: it was used after it was closed.
 */
export type RelayErrorCode =
  | 'EndpointNotFound'
  | 'Unauthorized'
  | 'Forbidden'
  | 'QuotaExceeded'
  | 'Rejected'
  | 'Timeout'
  | 'Unavailable'
  | 'ProxyRefused'
  | 'TlsFailed'
  | 'ConnectionFailed'
  | 'ConnectionLost'
  | 'ProtocolError'
  | 'Aborted'
  | 'Closed';

export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly code: RelayErrorCode;
  /** HTTP status of the answer that refused; undefined without one. */
  readonly status: number | undefined;
  /** Whether the very same attempt may succeed later without anything being changed. */
  readonly isTransient: boolean;

  constructor(
    code: RelayErrorCode,
    message: string,
    details: {
      readonly status?: number;
      readonly isTransient?: boolean;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.isTransient = details.isTransient ?? false;
  }
}
