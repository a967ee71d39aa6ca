import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';

/** What becomes of a WebSocket handshake. */
export type Obstacle = 'swallows' | 'holds-back' | 'cuts' | 'breaks-soon' | 'strips';

export interface UpgradeObstacle extends AsyncDisposable {
  readonly port: number;
  /** Handshakes that came. */
  readonly handshakes: number;
  /** Lets WebSockets pass from now on. */
  clear(): void;
}

/**
 * An HTTP intermediary that forwards requests as they should be, and WebSockets not: it gives no answer,
 * lets the 101 through and nothing after it, cuts the handshake, cuts the WebSocket a moment later, or strips the
 * handshake of what makes it one, so that the relay answers an ordinary request.
 */
export async function startUpgradeObstacle(
  relayPort: number,
  obstacle: Obstacle,
): Promise<UpgradeObstacle> {
  const open = new Set<Duplex>();
  let handshakes = 0;
  let isClear = false;
  const server = createServer((near, answer) => {
    const { method, url: path, headers } = near;
    const far = httpRequest({ host: '127.0.0.1', port: relayPort, method, path, headers });
    far.on('error', () => answer.destroy());
    far.on('response', response => {
      answer.writeHead(response.statusCode ?? 502, response.statusMessage, response.headers);
      response.pipe(answer);
    });
    answer.on('close', () => far.destroy());
    near.pipe(far);
  });
  server.on('connection', (socket: Duplex) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.on('upgrade', (head, near: Duplex) => {
    handshakes += 1;
    near.on('error', () => near.destroy());
    if (!isClear && obstacle === 'swallows') return;
    if (!isClear && obstacle === 'cuts') {
      near.destroy();
      return;
    }
    if (!isClear && obstacle === 'strips') {
      forwardStripped(head, near, relayPort);
      return;
    }
    const far = connect(relayPort, '127.0.0.1');
    far.on('error', () => near.destroy());
    far.once('close', () => near.destroy());
    near.once('close', () => far.destroy());
    near.once('end', () => far.destroy());
    const lines = [`GET ${head.url} HTTP/1.1`];
    for (let at = 0; at < head.rawHeaders.length; at += 2) {
      lines.push(`${head.rawHeaders[at]}: ${head.rawHeaders[at + 1]}`);
    }
    far.write(`${lines.join('\r\n')}\r\n\r\n`);
    if (!isClear && obstacle === 'holds-back') {
      // The relay's answer comes before anything else it says.
      far.once('data', (chunk: Buffer) => {
        near.write(chunk.subarray(0, chunk.indexOf('\r\n\r\n') + 4));
        far.resume();
        near.resume();
      });
      return;
    }
    if (!isClear) far.once('data', () => setTimeout(() => near.destroy(), 50));
    near.pipe(far).pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    get handshakes() {
      return handshakes;
    },
    clear: () => {
      isClear = true;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}

/** As proxies do that know nothing of upgrades: both headers are of one hop, and end at it. */
function forwardStripped(head: IncomingMessage, near: Duplex, port: number): void {
  const { upgrade: _, connection: _of, ...headers } = head.headers;
  const { method, url: path } = head;
  const far = httpRequest({ host: '127.0.0.1', port, method, path, headers }, answer => {
    const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`, 'Connection: close'];
    for (const [name, value] of Object.entries(answer.headers)) {
      if (name !== 'connection' && name !== 'transfer-encoding')
        lines.push(`${name}: ${String(value)}`);
    }
    near.write(`${lines.join('\r\n')}\r\n\r\n`);
    answer.pipe(near);
  });
  far.on('error', () => near.destroy());
  far.end();
}
