import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { us_listen_socket, TemplatedApp } from 'uWebSockets.js';
import { CorkLender } from './cork-lender.ts';
import { httpRoute, type HttpRouteOptions } from './http-route.ts';
import {
  POLL_SOCKET_PATTERN,
  pollSocketRoute,
  type PollSocketOptions,
} from './poll/poll-socket.ts';
import { LISTEN_EXCLUSIVE, LISTEN_SHARED, uWS } from './uws.ts';
import { webSocketRoute, type WebSocketRouteOptions } from './websocket-route.ts';

/** The one port that clients need, or the Unix socket behind our own TLS. */
export interface PublicPort {
  /** 0 for a Unix socket. */
  readonly port: number;
  stopListening(): void;
  /** Cuts every connection that is left. */
  close(): void;
}

/** What the routes of the public port need. */
export interface PublicRoutes {
  readonly webSocket: WebSocketRouteOptions;
  readonly pollSocket: PollSocketOptions;
  readonly http: HttpRouteOptions;
  /** Further routes, below paths of their own. */
  readonly mount?: ((app: TemplatedApp) => void) | undefined;
}

/** The route table: WebSocket handshakes by their place, everything else to one. */
function routes(options: PublicRoutes, lender: CorkLender): TemplatedApp {
  const app = uWS.App();
  options.mount?.(app);
  return app
    .ws(POLL_SOCKET_PATTERN, pollSocketRoute(options.pollSocket))
    .ws('/*', webSocketRoute(options.webSocket, lender))
    .any('/*', httpRoute(options.http));
}

/** Where the public port is. */
export interface PublicAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Undefined when the address cannot be had: in use, or not ours. With `isShared` only one that is used by others than
 * those that share it counts as in use.
 */
export async function openPublicPort(
  options: PublicRoutes,
  { host, port }: PublicAddress,
  { isShared }: { readonly isShared: boolean },
): Promise<PublicPort | undefined> {
  const lender = await CorkLender.open(options.http.clock);
  const app = routes(options, lender);
  const socket = await new Promise<us_listen_socket | false>(resolve => {
    app.listen(host, port, isShared ? LISTEN_SHARED : LISTEN_EXCLUSIVE, resolve);
  });
  if (socket === false) {
    lender.close();
    return undefined;
  }
  return opened(app, socket, () => lender.close());
}

/** A port there that nobody uses, for several processes to share. Undefined when the address cannot be had. */
export async function findSharedPort({ host, port }: PublicAddress): Promise<number | undefined> {
  const app = uWS.App();
  const socket = await new Promise<us_listen_socket | false>(resolve => {
    app.listen(host, port, LISTEN_EXCLUSIVE, resolve);
  });
  if (socket === false) return undefined;
  const found = uWS.us_socket_local_port(socket);
  app.close();
  return found;
}

export interface PublicUnixSocket extends PublicPort {
  readonly path: string;
}

/** For our TLS terminator: a socket in a fresh folder that only this user can enter. */
export async function openPublicUnixSocket(
  options: PublicRoutes,
): Promise<PublicUnixSocket | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-'));
  const path = join(folder, 'tls.sock');
  const lender = await CorkLender.open(options.http.clock);
  const app = routes(options, lender);
  const socket = await new Promise<us_listen_socket | false>(resolve => {
    app.listen_unix(resolve, path);
  });
  const remove = (): void => {
    lender.close();
    rmSync(folder, { recursive: true, force: true });
  };
  if (socket === false) {
    remove();
    return undefined;
  }
  return { ...opened(app, socket, remove), port: 0, path };
}

function opened(app: TemplatedApp, socket: us_listen_socket, onClose: () => void): PublicPort {
  let isListening = true;
  const stopListening = (): void => {
    if (!isListening) return;
    isListening = false;
    uWS.us_listen_socket_close(socket);
  };
  return {
    port: uWS.us_socket_local_port(socket),
    stopListening,
    close: () => {
      stopListening();
      app.close();
      onClose();
    },
  };
}
