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

/** An answer in full, as far as it was read, for programs that show it. */
export interface RefusedAnswer {
  /** Name and value by turns, as they came; none where only the body counts. */
  readonly rawHeaders: readonly string[];
  /** At most its first 16 KiB. */
  readonly body: string;
}

export interface RelayErrorDetails {
  readonly status?: number | undefined;
  readonly reason?: string | undefined;
  readonly trackingId?: string | undefined;
  readonly answer?: RefusedAnswer | undefined;
  readonly isTransient?: boolean;
  readonly cause?: unknown;
}

export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly code: RelayErrorCode;
  /** HTTP status of the answer that refused; undefined without one. */
  readonly status: number | undefined;
  /** Reason phrase of that answer, as it came. */
  readonly reason: string | undefined;
  /** The relay's name for what it refused; only the relay gives one, nothing between here and there does. */
  readonly trackingId: string | undefined;
  /** What refused a request; undefined without an answer. */
  readonly answer: RefusedAnswer | undefined;
  /** Whether the very same attempt may succeed later without anything being changed. */
  readonly isTransient: boolean;

  constructor(code: RelayErrorCode, message: string, details: RelayErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.reason = details.reason;
    this.trackingId = details.trackingId;
    this.answer = details.answer;
    this.isTransient = details.isTransient ?? false;
  }
}

/** What `AbortSignal` of a caller ended. */
export function abortedError(what: string, signal: AbortSignal): RelayError {
  return new RelayError('Aborted', `${what} was aborted`, { cause: signal.reason });
}

/** A promise's outcome, or `Aborted` if that comes first; what is given up may go on unheard. */
export async function unlessAborted<T>(
  what: string,
  signal: AbortSignal | undefined,
  promise: Promise<T>,
): Promise<T> {
  if (signal === undefined) return promise;
  const done = new AbortController();
  const aborted = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => reject(abortedError(what, signal));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true, signal: done.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    done.abort();
    promise.catch(() => undefined);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
