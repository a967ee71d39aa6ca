import { TLSSocket } from 'node:tls';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Clock } from '../../base/clock.ts';
import { bodyStart } from '../../client/dial-websocket.ts';
import { RelayError } from '../../client/relay-error.ts';
import type { Routes } from '../../client/routes.ts';

/** How long an answer may take to begin. */
export const ANSWER_TIMEOUT_MS = 10_000;

/** An answer to a question of the doctor's. */
export interface Told {
  readonly status: number;
  readonly reason: string;
  readonly headers: IncomingHttpHeaders;
  /** At most its first 16 KiB. */
  readonly body: string;
  /** Of the TLS connection it came on. */
  readonly tls: TlsFacts | undefined;
  /** By our clock, halfway between question and answer, in milliseconds since 1970. */
  readonly wallMs: number;
}

export interface TlsFacts {
  /** `TLSv1.3` */
  readonly version: string;
  readonly issuer: string;
  /** Milliseconds since 1970; NaN when it is not told. */
  readonly expiresAtMs: number;
}

/** One HTTP request, whatever its answer. Rejects with a `RelayError`, also when a proxy answers. */
export function ask(
  { routes, clock }: { readonly routes: Routes; readonly clock: Clock },
  url: URL,
  headers: Readonly<Record<string, string>> = {},
): Promise<Told> {
  return new Promise((resolve, reject) => {
    const doing = `ask "${url.pathname}" at ${url.origin}`;
    const { request, failure, proxyRefusal } = routes.open(url, { doing, headers });
    const askedAtMs = clock.wallMs();
    const fail = (error: RelayError): void => {
      cancel();
      reject(error);
      request.destroy();
    };
    const cancel = clock.after(ANSWER_TIMEOUT_MS, () => {
      const message = `Cannot ${doing}: no answer within ${ANSWER_TIMEOUT_MS / 1_000} s`;
      fail(new RelayError('Timeout', message));
    });
    request.on('error', error => fail(failure(error)));
    request.once('response', (response: IncomingMessage) => {
      const refusal = proxyRefusal(response);
      if (refusal !== undefined) {
        fail(refusal);
        return;
      }
      cancel();
      const wallMs = (askedAtMs + clock.wallMs()) / 2;
      const tls = response.socket instanceof TLSSocket ? factsOf(response.socket) : undefined;
      const { statusCode: status = 0, statusMessage: reason = '', headers: answered } = response;
      bodyStart(response, clock).then(body => {
        resolve({ status, reason, headers: answered, body, tls, wallMs });
        request.destroy();
      }, reject);
    });
    request.end();
  });
}

function factsOf(socket: TLSSocket): TlsFacts {
  const { issuer, valid_to: validTo } = socket.getPeerCertificate();
  return {
    version: socket.getProtocol() ?? 'unknown',
    issuer: issuer?.O ?? issuer?.CN ?? 'unknown',
    // oxlint-disable-next-line no-restricted-globals -- reads a text, asks no clock
    expiresAtMs: Date.parse(validTo),
  };
}
