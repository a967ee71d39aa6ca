import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { bodyStart } from './dial-websocket.ts';
import { attemptOf, doing, refusalError } from './refused-answers.ts';
import { abortedError, messageOf, RelayError } from './relay-error.ts';
import type { Routes } from './routes.ts';

export type RequestBody = string | Uint8Array | AsyncIterable<string | Uint8Array>;

export interface HttpExchange {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: RequestBody | undefined;
  /** How long the answer may take to begin, counted from the request's end, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** A listener's answer, whatever its status. */
export interface HttpAnswer {
  readonly status: number;
  readonly reason: string;
  /** Names in lower case, repeated values joined, as Node has it. */
  readonly headers: IncomingHttpHeaders;
  /** Name and value by turns, as they came. */
  readonly rawHeaders: readonly string[];
  /** To be read, or destroyed. Ends in an error when the answer breaks off. */
  readonly body: Readable;
}

/** May be sent twice without harm (RFC 9110, section 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'OPTIONS',
  'PUT',
  'DELETE',
  'TRACE',
]);

interface ExchangeDeps {
  readonly routes: Routes;
  readonly clock: Clock;
}

/** One HTTP request by way of the relay. Rejects with a `RelayError` when it is not the listener that answers. */
export async function exchange(what: HttpExchange, deps: ExchangeDeps): Promise<HttpAnswer> {
  // The other end may close a connection that was kept just when it is used again. Only what can be repeated takes one.
  const isRepeatable = isWhole(what.body) && IDEMPOTENT.has(what.method.toUpperCase());
  try {
    return await attemptExchange(what, { ...deps, keepsAlive: isRepeatable });
  } catch (error) {
    if (!(error instanceof KeptConnectionLost)) throw error;
    return attemptExchange(what, { ...deps, keepsAlive: false });
  }
}

class KeptConnectionLost extends Error {}

function isWhole(body: RequestBody | undefined): body is string | Uint8Array | undefined {
  return body === undefined || typeof body === 'string' || body instanceof Uint8Array;
}

function attemptExchange(
  what: HttpExchange,
  deps: ExchangeDeps & { readonly keepsAlive: boolean },
): Promise<HttpAnswer> {
  const { url, method, headers, body, signal, timeoutMs } = what;
  const { clock, keepsAlive, routes } = deps;
  const attempt = attemptOf(url, 'send');
  return new Promise<HttpAnswer>((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortedError(`To ${doing(attempt)}`, signal));
      return;
    }
    const { request, failure, proxyRefusal } = routes.open(url, {
      doing: doing(attempt),
      method,
      headers,
      keepsAlive,
    });
    let answer: IncomingMessage | undefined;
    // What the body's source throws is its owner's, and no failure of the connection.
    let sourceError: Error | undefined;
    let cancelTimeout: CancelTimer | undefined;
    const settle = (): void => {
      cancelTimeout?.();
      if (answer === undefined) signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: Error): void => {
      settle();
      reject(error);
      request.destroy();
    };
    const onAbort = (): void => {
      if (signal === undefined) return;
      const error = abortedError(`To ${doing(attempt)}`, signal);
      if (answer === undefined) fail(error);
      else answer.destroy(error);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const startTimeout = (): void => {
      if (answer !== undefined) return;
      cancelTimeout = clock.after(timeoutMs, () => {
        const message = `Cannot ${doing(attempt)}: no answer within ${timeoutMs / 1_000} s`;
        fail(new RelayError('Timeout', message, { isTransient: true }));
      });
    };
    request.on('error', error => {
      if (answer !== undefined) return;
      fail(
        sourceError ??
          (keepsAlive && request.reusedSocket ? new KeptConnectionLost() : failure(error)),
      );
    });
    request.once('response', response => {
      const refusal = proxyRefusal(response);
      if (refusal !== undefined) {
        fail(refusal);
        return;
      }
      cancelTimeout?.();
      const { statusCode: status = 0, statusMessage: reason = '' } = response;
      if (isOfListener(response, url)) {
        answer = response;
        response.once('close', () => signal?.removeEventListener('abort', onAbort));
        const { headers: answered, rawHeaders } = response;
        resolve({ status, reason, headers: answered, rawHeaders, body: response });
        return;
      }
      bodyStart(response, clock).then(
        text => {
          const { rawHeaders } = response;
          fail(refusalError(attempt, { status, reason, rawHeaders, body: text }));
        },
        (error: unknown) => fail(failure(error)),
      );
    });
    if (isWhole(body)) {
      request.end(body);
      startTimeout();
      return;
    }
    const pieces = watched(body, error => {
      sourceError = error;
    });
    pipeline(Readable.from(pieces, { objectMode: false }), request).then(
      startTimeout,
      (error: unknown) => {
        // An answer that comes before the whole body was wanted is an answer all the same.
        if (answer === undefined) fail(sourceError ?? failure(error));
      },
    );
  });
}

async function* watched(
  body: AsyncIterable<string | Uint8Array>,
  onError: (error: Error) => void,
): AsyncGenerator<string | Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    onError(error instanceof Error ? error : new Error(messageOf(error), { cause: error }));
    throw error;
  }
}

/**
 * Whether it is the listener that answers. The relay puts `Via` with its host into answers that it
 * passes on, and into its own refusals a tracking id but no `Via`; a proxy on the way may add one there.
 */
function isOfListener({ statusCode = 0, statusMessage = '', headers }: IncomingMessage, url: URL) {
  const via = headers.via?.toLowerCase() ?? '';
  if (via.split(',').some(hop => hop.trim().split(/\s+/)[1] === url.host)) return true;
  if (/TrackingId:/i.test(statusMessage)) return false;
  // Without any `Via` only a good answer can be the listener's: there are proxies that take it away.
  return via !== '' || statusCode < 400;
}
