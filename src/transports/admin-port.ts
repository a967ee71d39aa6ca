import { createHash, timingSafeEqual } from 'node:crypto';
import type { HttpResponse, us_listen_socket } from 'uWebSockets.js';
import { answerHealth, writeJson, type Readiness } from './health.ts';
import { addManagementRoutes, type ManagementRoutesOptions } from './management-routes.ts';
import { LISTEN_EXCLUSIVE, uWS } from './uws.ts';

export interface AdminPortOptions {
  readonly host: string;
  readonly port: number;
  /** Asked for as bearer token, except by the health checks; undefined: nobody is asked. */
  readonly token: string | undefined;
  readonly readiness: () => Readiness;
  readonly metrics: () => Promise<{ readonly text: string; readonly contentType: string }>;
  readonly status: () => Promise<{ readonly html: string; readonly json: unknown }>;
  readonly manage: ManagementRoutesOptions['handle'];
  readonly reportBug: (bug: unknown) => void;
}

export interface AdminPort {
  readonly port: number;
  close(): void;
}

/** Opens the admin port: metrics, health, status and management. Undefined when the address cannot be had. */
export async function openAdminPort(options: AdminPortOptions): Promise<AdminPort | undefined> {
  const app = uWS.App();
  app.get('/healthz', response => void answerHealth('healthz', response, options.readiness));
  app.get('/readyz', response => void answerHealth('readyz', response, options.readiness));
  app.get('/metrics', (response, request) => {
    if (!isAllowed(request.getHeader('authorization'), options.token)) return deny(response);
    let isAborted = false;
    response.onAborted(() => {
      isAborted = true;
    });
    options.metrics().then(({ text, contentType }) => {
      if (isAborted) return;
      response.cork(() => response.writeHeader('Content-Type', contentType).end(text));
    }, options.reportBug);
  });
  app.get('/status', (response, request) => {
    if (!isAllowed(request.getHeader('authorization'), options.token)) return deny(response);
    const isJson = request.getHeader('accept').includes('application/json');
    let isAborted = false;
    response.onAborted(() => {
      isAborted = true;
    });
    options.status().then(({ html, json }) => {
      if (isAborted) return;
      response.cork(() => {
        if (isJson) writeJson(response, '200 OK', json);
        else writeHtml(response, html);
      });
    }, options.reportBug);
  });
  addManagementRoutes(app, {
    isAllowed: authorization => isAllowed(authorization, options.token),
    deny,
    isTokenAsked: options.token !== undefined,
    handle: options.manage,
    reportBug: options.reportBug,
  });
  app.any('/*', response =>
    writeJson(response, '404 Not Found', {
      error:
        'Not found; this port has /healthz, /readyz, /metrics, /status, /api/namespaces and POST /api/drain',
    }),
  );
  const socket = await new Promise<us_listen_socket | false>(resolve => {
    app.listen(options.host, options.port, LISTEN_EXCLUSIVE, resolve);
  });
  if (socket === false) return undefined;
  return {
    port: uWS.us_socket_local_port(socket),
    close: () => {
      app.close();
    },
  };
}

function writeHtml(response: HttpResponse, html: string): void {
  response
    .writeHeader('Content-Type', 'text/html; charset=utf-8')
    .writeHeader('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'")
    .writeHeader('Cache-Control', 'no-store')
    .end(html);
}

function isAllowed(authorization: string, token: string | undefined): boolean {
  if (token === undefined) return true;
  // Digests have one length, so that the comparison tells nothing about the token's.
  return timingSafeEqual(digest(authorization), digest(`Bearer ${token}`));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function deny(response: HttpResponse): void {
  response.writeStatus('401 Unauthorized').writeHeader('WWW-Authenticate', 'Bearer');
  response
    .writeHeader('Content-Type', 'application/json')
    .end(JSON.stringify({ error: 'Send "Authorization: Bearer <admin token>"' }));
}
