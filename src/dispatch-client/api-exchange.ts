import type { IncomingMessage } from 'node:http';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { RelayError } from '../client/relay-error.ts';
import type { Routes } from '../client/routes.ts';
import { DispatchError } from './dispatch-error.ts';

export interface ApiCall {
  /** Undefined values are left out. */
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** The version of the record that was read. */
  readonly ifMatch?: number | undefined;
  /** Makes a request that creates something repeatable: the same key gives the same record. */
  readonly idempotencyKey?: string | undefined;
  /** How long the answer may take, on top of the server's own waiting; 30 s unless it is given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ApiRequest extends ApiCall {
  readonly url: URL;
  readonly method: string;
  readonly token: string | undefined;
}

/** A good answer; `body` is undefined where there is none. */
export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

const ANSWER_TIMEOUT_MS = 30_000;
/** Outputs of runs are the largest that there is: 32 MiB, and JSON around them. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** Between tries of what may be tried again. */
const RETRY_DELAYS_MS: readonly number[] = [250, 1_000];

interface Deps {
  readonly routes: Routes;
  readonly clock: Clock;
}

/**
 * One request to the REST interface. What is read only, or has an idempotency key, is tried again when the connection
 * was cut under it or the server's store was away. Rejects with a `DispatchError`.
 */
export async function askApi(request: ApiRequest, deps: Deps): Promise<ApiAnswer> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await askOnce(request, deps);
    } catch (error) {
      const delayMs = RETRY_DELAYS_MS[tries];
      if (delayMs === undefined || !isRepeatable(request) || !mayPass(error)) throw error;
      await pause(delayMs, deps.clock, request.signal);
    }
  }
}

/** Resolves when the time is over. Rejects with `Aborted` if the signal comes before. */
export function pause(
  delayMs: number,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      cancel();
      reject(aborted());
    };
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function isRepeatable({ method, idempotencyKey }: ApiRequest): boolean {
  return method === 'GET' || idempotencyKey !== undefined;
}

/** A host that is not there at all, or a certificate that is not trusted, will be so in a second too. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof DispatchError)) return false;
  if (error.status === 503) return true;
  const { cause } = error;
  if (!(cause instanceof RelayError)) return false;
  const of = cause.cause;
  const code = of instanceof Error && 'code' in of ? of.code : undefined;
  return code === 'ECONNRESET' || code === 'EPIPE';
}

async function askOnce(request: ApiRequest, { routes, clock }: Deps): Promise<ApiAnswer> {
  const { url, method, body, signal, timeoutMs = ANSWER_TIMEOUT_MS } = request;
  if (signal?.aborted === true) throw aborted();
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const {
    request: sent,
    failure,
    proxyRefusal,
  } = routes.open(url, {
    doing: `reach job dispatch at ${url.origin}`,
    method,
    headers: headersOf(request, bytes),
    keepsAlive: method === 'GET',
  });
  const answer = new Promise<ApiAnswer>((resolve, reject) => {
    const fail = (error: unknown): void => {
      reject(error instanceof DispatchError ? error : unreachable(failure(error)));
      sent.destroy();
    };
    const cancelTimeout = clock.after(timeoutMs, () => {
      const message = `Cannot reach job dispatch at ${url.origin}: no answer within ${timeoutMs / 1_000} s`;
      fail(new RelayError('Timeout', message, { isTransient: true }));
    });
    const onAbort = (): void => fail(aborted());
    signal?.addEventListener('abort', onAbort, { once: true });
    sent.once('close', () => {
      cancelTimeout();
      signal?.removeEventListener('abort', onAbort);
    });
    // Stays, since a request that was destroyed may say so once more.
    sent.on('error', fail);
    sent.once('response', (response: IncomingMessage) => {
      const refusal = proxyRefusal(response);
      if (refusal !== undefined) {
        fail(refusal);
        return;
      }
      textOf(response)
        .then(text => {
          cancelTimeout();
          resolve(answerOf(response, text, url));
        }, fail)
        .catch(fail);
    });
  });
  sent.end(bytes);
  return answer;
}

function headersOf(request: ApiRequest, bytes: Buffer | undefined): Record<string, string> {
  const { method, token, ifMatch, idempotencyKey } = request;
  const length = method === 'GET' ? undefined : (bytes?.length ?? 0);
  return {
    Accept: 'application/json',
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    ...(bytes === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...(length === undefined ? {} : { 'Content-Length': String(length) }),
    ...(ifMatch === undefined ? {} : { 'If-Match': `"${ifMatch}"` }),
    ...(idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }),
  };
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > ANSWER_BYTES_MAX) {
      throw new DispatchError(
        'AnswerUnreadable',
        `The answer is larger than ${ANSWER_BYTES_MAX} bytes`,
      );
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const problemSchema = v.looseObject({
  title: v.optional(v.string()),
  detail: v.optional(v.string()),
  code: v.string(),
  trackingId: v.optional(v.string()),
  errors: v.optional(v.array(v.looseObject({ path: v.string(), message: v.string() })), []),
});

function answerOf(response: IncomingMessage, text: string, url: URL): ApiAnswer {
  const { statusCode: status = 0, headers } = response;
  const body = parsed(text);
  if (status >= 200 && status < 300) {
    if (text === '' || body !== undefined) return { status, body };
    throw noDispatch(status, url);
  }
  const problem = v.safeParse(problemSchema, body);
  if (!problem.success) throw noDispatch(status, url);
  const { title = '', detail = title, code, trackingId, errors } = problem.output;
  const seconds = Number(headers['retry-after']);
  throw new DispatchError(code, detail === '' ? code : detail, {
    status,
    faults: errors.map(({ path, message }) => ({ path, message })),
    trackingId,
    ...(Number.isFinite(seconds) ? { retryAfterSeconds: seconds } : {}),
  });
}

function noDispatch(status: number, url: URL): DispatchError {
  const message = `What answers at ${url.origin} (status ${status}) is not job dispatch: is that the relay's public port, and was it started with --dispatch?`;
  return new DispatchError('AnswerUnreadable', message, { status });
}

function unreachable(cause: RelayError): DispatchError {
  return new DispatchError('Unreachable', cause.message, { cause });
}

function aborted(): DispatchError {
  return new DispatchError('Aborted', 'The request was aborted');
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
