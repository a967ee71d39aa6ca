/** Every way the management API says no: the code in the body, and its status. */
const STATUSES = {
  BadRequest: 400,
  Forbidden: 403,
  QuotaExceeded: 403,
  ResourceNotFound: 404,
  MethodNotAllowed: 405,
  Conflict: 409,
  DefinedInConfigFile: 409,
  PreconditionFailed: 412,
  RequestTooLarge: 413,
  InternalError: 500,
  StoreUnavailable: 503,
} as const;

export type ApiErrorCode = keyof typeof STATUSES;

/** One fault of a request; `target` names the place in the body, or `name`. */
export interface ApiFault {
  readonly target: string;
  readonly message: string;
}

export interface ApiAnswer {
  readonly status: number;
  /** Undefined: no body. */
  readonly body?: unknown;
  readonly etag?: string;
  /** Comma-separated methods of a 405. */
  readonly allow?: string;
  readonly error?: ApiErrorCode;
}

/** `{"error":{"code","message","details"}}`, as Azure's resource model has it. */
export function apiError(
  code: ApiErrorCode,
  message: string,
  faults: readonly ApiFault[] = [],
): ApiAnswer {
  const details = faults.map(fault => ({ code, ...fault }));
  return {
    status: STATUSES[code],
    body: { error: { code, message, ...(details.length === 0 ? {} : { details }) } },
    error: code,
  };
}

/** All faults of a request at once; the message repeats them for those who read only that. */
export function badRequest(faults: readonly ApiFault[]): ApiAnswer {
  const text = faults.map(({ target, message }) => `${target} ${message}`).join('; ');
  return apiError('BadRequest', `Cannot read the request: ${text}`, faults);
}
