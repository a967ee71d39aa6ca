import type { IncomingMessage } from 'node:http';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import { abortedError, RelayError } from '../relay-error.ts';
import type { RoutedRequest, Routes } from '../routes.ts';

export interface ExchangeRequest {
  /** For messages, as in "Cannot …". */
  readonly doing: string;
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** In pieces, none of which may change any more. */
  readonly body?: readonly Uint8Array[];
  /** How long the answer may take to begin, in milliseconds. */
  readonly answerTimeoutMs: number;
  /** Longest body of an answer, in bytes. */
  readonly answerBytesMax: number;
  readonly signal?: AbortSignal | undefined;
  /** Not on a kept connection, which the other end may be closing: for what must not be repeated. */
  readonly isOnce?: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly reason: string;
  readonly location: string | undefined;
  readonly body: Buffer;
}

/** Nothing that could be used came back; whether the request arrived is not known. */
export interface NoAnswer {
  readonly error: RelayError;
  /** We gave up, nobody cut it. */
  readonly isTimeout: boolean;
  /** It was sent on a kept connection that the other end may have been closing. */
  readonly isOnKeptConnection: boolean;
}

/** An answer's body that stops for so long is given up. */
const BODY_SILENCE_MS = 10_000;
/** However it trickles, the body of an answer has to be there in this time. */
const BODY_TIMEOUT_MS = 120_000;

interface ExchangeDeps {
  readonly routes: Routes;
  readonly clock: Clock;
}

/**
 * One HTTP request with a short body and a short answer. Never rejects: what went wrong is a value,
 * because for long polls it is part of every day.
 */
export function exchange(
  deps: ExchangeDeps,
  asked: ExchangeRequest,
): Promise<HttpAnswer | NoAnswer> {
  return new Promise(resolve => new Exchange(deps, asked, resolve).begin());
}

class Exchange {
  readonly #deps: ExchangeDeps;
  readonly #asked: ExchangeRequest;
  readonly #resolve: (outcome: HttpAnswer | NoAnswer) => void;
  #routed: RoutedRequest | undefined;
  #cancelTimeout: CancelTimer | undefined;
  #cancelBodyTimeout: CancelTimer | undefined;
  #isSettled = false;

  constructor(
    deps: ExchangeDeps,
    asked: ExchangeRequest,
    resolve: (outcome: HttpAnswer | NoAnswer) => void,
  ) {
    this.#deps = deps;
    this.#asked = asked;
    this.#resolve = resolve;
  }

  begin(): void {
    const { doing, method, url, headers = {}, body = [], answerTimeoutMs, signal } = this.#asked;
    const keepsAlive = this.#asked.isOnce !== true;
    if (signal?.aborted === true) {
      this.#onAbort();
      return;
    }
    const bodyBytes = body.reduce((bytes, piece) => bytes + piece.length, 0);
    const length = method === 'POST' ? { 'Content-Length': `${bodyBytes}` } : {};
    const sent = { ...headers, ...length };
    try {
      this.#routed = this.#deps.routes.open(url, {
        doing,
        method,
        headers: sent,
        keepsAlive,
      });
    } catch (error) {
      // The environment may name a proxy that is none.
      if (!(error instanceof RelayError)) throw error;
      this.#fail(error);
      return;
    }
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#expect('no answer', answerTimeoutMs);
    const routed = this.#routed;
    routed.request.on('error', error => this.#fail(routed.failure(error)));
    routed.request.once('response', answer => {
      const refusal = routed.proxyRefusal(answer);
      if (refusal === undefined) this.#read(answer, routed);
      else this.#fail(refusal);
    });
    // All of it in one system call, with the head.
    routed.request.cork();
    for (const piece of body) routed.request.write(piece);
    routed.request.end();
  }

  #read(answer: IncomingMessage, routed: RoutedRequest): void {
    const { doing, answerBytesMax } = this.#asked;
    const parts: Buffer[] = [];
    let bytes = 0;
    this.#expect('the answer stopped half-way and did not go on', BODY_SILENCE_MS);
    this.#cancelBodyTimeout = this.#deps.clock.after(BODY_TIMEOUT_MS, () =>
      this.#giveUp('the answer was not complete', BODY_TIMEOUT_MS),
    );
    answer.on('data', (part: Buffer) => {
      bytes += part.length;
      if (bytes > answerBytesMax) {
        const message = `Cannot ${doing}: the answer is longer than any of the relay`;
        this.#fail(new RelayError('ProtocolError', message));
        return;
      }
      parts.push(part);
      this.#expect('the answer stopped half-way and did not go on', BODY_SILENCE_MS);
    });
    answer.once('error', error => this.#fail(routed.failure(error)));
    answer.once('end', () => {
      const { statusCode: status = 0, statusMessage: reason = '' } = answer;
      const { location } = answer.headers;
      this.#settle({ status, reason, location, body: Buffer.concat(parts, bytes) });
    });
  }

  readonly #onAbort = (): void => {
    const { doing, signal } = this.#asked;
    if (signal !== undefined) this.#fail(abortedError(`To ${doing}`, signal));
  };

  #expect(what: string, timeoutMs: number): void {
    if (this.#isSettled) return;
    this.#cancelTimeout?.();
    this.#cancelTimeout = this.#deps.clock.after(timeoutMs, () => this.#giveUp(what, timeoutMs));
  }

  #giveUp(what: string, timeoutMs: number): void {
    const message = `Cannot ${this.#asked.doing}: ${what} within ${Math.round(timeoutMs / 1_000)} s`;
    this.#fail(new RelayError('Timeout', message, { isTransient: true }), true);
  }

  #fail(error: RelayError, isTimeout = false): void {
    const request = this.#routed?.request;
    this.#settle({ error, isTimeout, isOnKeptConnection: request?.reusedSocket === true });
    request?.destroy();
  }

  #settle(outcome: HttpAnswer | NoAnswer): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#cancelTimeout?.();
    this.#cancelBodyTimeout?.();
    this.#asked.signal?.removeEventListener('abort', this.#onAbort);
    this.#resolve(outcome);
  }
}
