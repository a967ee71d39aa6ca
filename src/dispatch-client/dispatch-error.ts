/** One fault of what was sent: where, as `a.b[0]`, and what is wrong there. */
export interface FieldFault {
  readonly path: string;
  readonly message: string;
}

export interface DispatchErrorDetails {
  readonly status?: number;
  readonly faults?: readonly FieldFault[];
  readonly trackingId?: string | undefined;
  readonly retryAfterSeconds?: number | undefined;
  readonly cause?: unknown;
}

/** Why job dispatch did not do what it was asked to. Codes are for programs, messages for people. */
export class DispatchError extends Error {
  override readonly name = 'DispatchError';
  /**
   * The server's own code, of which a newer one may know more than this library; or one of ours:
   * `Unreachable`: no answer, so whatever was asked may have been done or not; `AnswerUnreadable`: what answered
   * is not job dispatch, or not of this version; `Aborted`: an `AbortSignal` of the caller; `KeyMismatch`: a public
   * key that is not the one its id names.
   */
  readonly code: string;
  /** HTTP status of the answer; undefined without one. */
  readonly status: number | undefined;
  /** What is wrong with each member of what was sent. */
  readonly faults: readonly FieldFault[];
  /** The server's name for this refusal, for whoever looks into its log. */
  readonly trackingId: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: string, message: string, details: DispatchErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.faults = details.faults ?? [];
    this.trackingId = details.trackingId;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }
}
