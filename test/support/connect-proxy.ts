import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';

/** A proxy as companies have them: tunnels by CONNECT, plain requests in absolute form, credentials. */
export interface ConnectProxy extends AsyncDisposable {
  readonly port: number;
  /** `http://user:password@127.0.0.1:port`, with the credentials that it wants. */
  readonly url: string;
  /** What was asked of it: `CONNECT host:port`, `GET http://…`. */
  readonly asked: readonly string[];
}

export async function startConnectProxy(
  options: {
    /** `user:password`; anybody may pass by default. */
    readonly credentials?: string;
    /** Answers every CONNECT with this status line's end, such as `403 Blocked`. */
    readonly refusal?: string;
    /** Before every request, with this certificate. */
    readonly server?: Server;
  } = {},
): Promise<ConnectProxy> {
  const asked: string[] = [];
  const open = new Set<Duplex>();
  const wanted =
    options.credentials === undefined
      ? undefined
      : `Basic ${Buffer.from(options.credentials).toString('base64')}`;
  const server = options.server ?? createServer();
  server.on('connection', (socket: Duplex) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
  });
  server.on('connect', (head, near: Duplex) => {
    near.on('error', () => undefined);
    const { url: target = '', headers } = head;
    asked.push(`CONNECT ${target}`);
    if (wanted !== undefined && headers['proxy-authorization'] !== wanted) {
      near.end('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    if (options.refusal !== undefined) {
      near.end(`HTTP/1.1 ${options.refusal}\r\nContent-Length: 5\r\n\r\nsorry`);
      return;
    }
    const { hostname, port } = new URL(`http://${target}`);
    const far = connect(Number(port === '' ? 80 : port), hostname);
    far.once('connect', () => {
      near.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      near.pipe(far).pipe(near);
    });
    far.on('error', () => near.destroy());
    near.once('close', () => far.destroy());
    far.once('close', () => near.destroy());
  });
  server.on('request', (near, answer) => {
    asked.push(`${near.method} ${near.url}`);
    if (wanted !== undefined && near.headers['proxy-authorization'] !== wanted) {
      answer.writeHead(407, 'Proxy Authentication Required').end();
      return;
    }
    const { 'proxy-authorization': _, ...headers } = near.headers;
    const far = request(new URL(near.url ?? ''), { method: near.method, headers }, response => {
      answer.writeHead(response.statusCode ?? 502, response.statusMessage, {
        ...response.headers,
        via: [response.headers.via, '1.1 the-proxy'].filter(Boolean).join(', '),
      });
      response.pipe(answer);
    });
    far.on('error', () => answer.destroy());
    near.pipe(far);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const user = options.credentials === undefined ? '' : `${options.credentials}@`;
  return {
    port: address.port,
    url: `http://${user}127.0.0.1:${address.port}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}
