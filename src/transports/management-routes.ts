import type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js';
import { apiError, type ApiAnswer } from '../management/api-answers.ts';
import type { ApiRequest } from '../management/api-request.ts';
import { STATUS_PHRASES } from '../protocol/status-phrases.ts';
import { endWithoutBody } from './refusal-response.ts';

export interface ManagementRoutesOptions {
  /** Whether the request carries the admin token, where one is asked for. */
  readonly isAllowed: (authorization: string) => boolean;
  /** Answers a request that does not. */
  readonly deny: (response: HttpResponse) => void;
  /** Without an admin token only this machine gets here; then names of others are not answered to. */
  readonly isTokenAsked: boolean;
  readonly handle: (request: ApiRequest) => Promise<ApiAnswer>;
  readonly reportBug: (bug: unknown) => void;
}

/** Largest body of a management request; real ones have a few hundred bytes. */
export const MANAGEMENT_BODY_BYTES_MAX = 65_536;

/** Adds `/api/…` to the admin port: reads each request whole, and hands it on. */
export function addManagementRoutes(app: TemplatedApp, options: ManagementRoutesOptions): void {
  const route = (response: HttpResponse, request: HttpRequest): void => {
    if (!options.isAllowed(request.getHeader('authorization'))) {
      options.deny(response);
      return;
    }
    const foreign =
      foreignPage(request) ?? (options.isTokenAsked ? undefined : foreignHost(request));
    if (foreign !== undefined) {
      write(response, apiError('Forbidden', foreign), true);
      return;
    }
    const head = headOf(response, request);
    let isAborted = false;
    response.onAborted(() => {
      isAborted = true;
    });
    readBody(response, body => {
      if (body === undefined) {
        const message = `Cannot read the request: its body has more than ${MANAGEMENT_BODY_BYTES_MAX} bytes`;
        response.cork(() => write(response, apiError('RequestTooLarge', message), true));
        return;
      }
      options
        .handle({ ...head, body })
        .catch((bug: unknown) => {
          options.reportBug(bug);
          return apiError('InternalError', 'The server failed; its log says why');
        })
        .then(answer => {
          if (!isAborted) response.cork(() => write(response, answer, false));
        }, options.reportBug);
    });
  };
  app.any('/api', route);
  app.any('/api/*', route);
}

/** Calls `done` once: with the whole body as text, or undefined as soon as it is too long. */
function readBody(response: HttpResponse, done: (body: string | undefined) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.onData((chunk, isLast) => {
    if (bytes > MANAGEMENT_BODY_BYTES_MAX) return;
    bytes += chunk.byteLength;
    if (bytes > MANAGEMENT_BODY_BYTES_MAX) {
      done(undefined);
      return;
    }
    // The chunk is lent for the call only.
    chunks.push(Buffer.from(new Uint8Array(chunk)));
    if (isLast) done(Buffer.concat(chunks).toString('utf8'));
  });
}

function headOf(response: HttpResponse, request: HttpRequest): Omit<ApiRequest, 'body'> {
  const ifMatch = request.getHeader('if-match');
  const ifNoneMatch = request.getHeader('if-none-match');
  return {
    method: request.getCaseSensitiveMethod(),
    path: request.getUrl(),
    host: request.getHeader('host'),
    remoteAddress: Buffer.from(response.getRemoteAddressAsText()).toString('latin1'),
    ...(ifMatch === '' ? {} : { ifMatch }),
    ...(ifNoneMatch === '' ? {} : { ifNoneMatch }),
  };
}

/** A browser sends `Origin` with what a page asks for. Pages of others must not rotate keys behind a user's back. */
function foreignPage(request: HttpRequest): string | undefined {
  const origin = request.getHeader('origin');
  const site = request.getHeader('sec-fetch-site');
  const isOwn = origin === '' || origin.replace(/^https?:\/\//, '') === request.getHeader('host');
  if (isOwn && site !== 'cross-site') return undefined;
  return 'Requests of pages from elsewhere are refused';
}

/** A name that leads to this machine may belong to anybody, who could read answers as a page of that name. */
function foreignHost(request: HttpRequest): string | undefined {
  const name = request.getHeader('host').replace(/:\d*$/, '');
  if (name === 'localhost' || /^[\d.]+$|^\[[\da-f:.]+\]$/i.test(name)) return undefined;
  return 'Without an admin token this port answers only to localhost and addresses: use http://127.0.0.1, or set HALFWAY_ADMIN_TOKEN';
}

function write(response: HttpResponse, answer: ApiAnswer, closeConnection: boolean): void {
  response.writeStatus(`${answer.status} ${STATUS_PHRASES[answer.status] ?? ''}`);
  response.writeHeader('Cache-Control', 'no-store');
  if (answer.etag !== undefined) response.writeHeader('ETag', `"${answer.etag}"`);
  if (answer.allow !== undefined) response.writeHeader('Allow', answer.allow);
  if (answer.body === undefined) {
    if (answer.status === 204 || answer.status === 304) {
      if (closeConnection) response.writeHeader('Connection', 'close');
      endWithoutBody(response, undefined);
    } else response.end('', closeConnection);
    return;
  }
  response
    .writeHeader('Content-Type', 'application/json')
    .end(JSON.stringify(answer.body), closeConnection);
}
