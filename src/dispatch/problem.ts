import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';

/** One fault of a request's body: where, as `a.b[0]`, and what is wrong there. */
export interface FieldFault {
  readonly path: string;
  readonly message: string;
}

/** A no of the control plane, ready to be told: its code says what it is, its message what to do. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: JobErrorCode;
  readonly errors: readonly FieldFault[];
  /** For `Retry-After`, in seconds. */
  readonly retryAfterSeconds: number | undefined;

  /** `detail` stands behind the code's own text. */
  constructor(
    code: JobErrorCode,
    detail?: string,
    more: {
      readonly errors?: readonly FieldFault[];
      readonly retryAfterSeconds?: number;
      readonly cause?: unknown;
    } = {},
  ) {
    const { text } = JOB_ERRORS[code];
    super(
      detail === undefined ? text : `${text}: ${detail}`,
      more.cause === undefined ? undefined : { cause: more.cause },
    );
    this.code = code;
    this.errors = more.errors ?? [];
    this.retryAfterSeconds = more.retryAfterSeconds;
  }

  get httpStatus(): number {
    return JOB_ERRORS[this.code].httpStatus;
  }
}
