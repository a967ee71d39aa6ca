import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import { Problem, type FieldFault } from '../dispatch/problem.ts';
import { StoreError } from '../store/relay-store.ts';
import { BodyFault, type ApiResponse, type BodyFaultReason } from './api-request.ts';

/** What HTTP itself says no to; everything else is a code of the domain. */
export const FRAME_ERRORS = {
  MethodNotAllowed: { status: 405, text: 'This path does not take the method; see Allow' },
  RequestTimeout: { status: 408, text: 'The body stood still for too long; send it again' },
  ContentTooLarge: { status: 413, text: 'The body is larger than it may be' },
  UnsupportedMediaType: { status: 415, text: 'The body is not of a type that is read here' },
  InternalError: {
    status: 500,
    text: 'The server failed; its log tells why, under the trackingId',
  },
  Overloaded: { status: 503, text: 'The server has too much to do; try again later' },
} as const;
export type FrameErrorCode = keyof typeof FRAME_ERRORS;

/** Every code that an answer can have. */
export const ERROR_CODES: readonly string[] = [
  ...Object.keys(JOB_ERRORS),
  ...Object.keys(FRAME_ERRORS),
];

/** A no of the HTTP frame. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
  readonly code: FrameErrorCode;
  readonly headers: Readonly<Record<string, string>>;

  /** `detail` stands behind the code's own text. */
  constructor(
    code: FrameErrorCode,
    detail?: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    const { text } = FRAME_ERRORS[code];
    super(detail === undefined ? text : `${text}: ${detail}`);
    this.code = code;
    this.headers = headers;
  }
}

/** What a caller waits before it tries again when nobody knows better. */
const RETRY_SECONDS = 2;
const PROBLEM_TYPE = 'application/problem+json';

export const BODY_FAULTS: Readonly<Record<BodyFaultReason, FrameErrorCode>> = {
  'too-large': 'ContentTooLarge',
  overloaded: 'Overloaded',
  stalled: 'RequestTimeout',
  gone: 'RequestTimeout',
};

/** A no as it is told. */
export interface Refusal {
  readonly code: JobErrorCode | FrameErrorCode;
  readonly status: number;
  /** The code's own text. */
  readonly title: string;
  readonly detail: string;
  readonly errors: readonly FieldFault[];
  readonly headers: Readonly<Record<string, string>>;
  /** It is a bug, or the store's: to be logged. */
  readonly isOurs: boolean;
}

/** What becomes of whatever was thrown on the way to an answer. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Problem) return domainRefusal(error, false);
  if (error instanceof StoreError) {
    // Where the store is and what it said is for the log, not for strangers.
    const problem = new Problem('StoreUnavailable', undefined, {
      retryAfterSeconds: RETRY_SECONDS,
    });
    return domainRefusal(problem, true);
  }
  if (error instanceof FrameError) return frameRefusal(error, false);
  if (error instanceof BodyFault)
    return frameRefusal(new FrameError(BODY_FAULTS[error.reason]), false);
  return frameRefusal(new FrameError('InternalError'), true);
}

/** RFC 9457, with the domain's code and what finds the request in the log. */
export function refusalResponse(refusal: Refusal, trackingId: string): ApiResponse {
  const { code, status, title, detail, errors } = refusal;
  const body = {
    type: `urn:halfway:problem:${code}`,
    title,
    status,
    detail,
    code,
    trackingId,
    ...(errors.length === 0 ? {} : { errors }),
  };
  const headers = { 'Content-Type': PROBLEM_TYPE, ...refusal.headers };
  return { status, headers, body: JSON.stringify(body) };
}

function domainRefusal(problem: Problem, isOurs: boolean): Refusal {
  const { code, httpStatus: status, message, errors, retryAfterSeconds } = problem;
  const isTemporary = status === 429 || status === 503;
  const seconds = retryAfterSeconds ?? (isTemporary ? RETRY_SECONDS : undefined);
  const headers = {
    ...(seconds === undefined ? {} : { 'Retry-After': String(seconds) }),
    ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
  };
  return { code, status, title: JOB_ERRORS[code].text, detail: message, errors, headers, isOurs };
}

function frameRefusal(error: FrameError, isOurs: boolean): Refusal {
  const { code, message } = error;
  const { status, text } = FRAME_ERRORS[code];
  const retry = status === 503 ? { 'Retry-After': String(RETRY_SECONDS) } : {};
  const headers = { ...retry, ...error.headers };
  return { code, status, title: text, detail: message, errors: [], headers, isOurs };
}
