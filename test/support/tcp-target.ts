import { once } from 'node:events';
import { createServer, type ListenOptions, type Socket } from 'node:net';
import { within } from './within.ts';

/** A server of plain TCP, or of a Unix socket, with which tests forward to something. */
export interface TcpTarget extends AsyncDisposable {
  /** 0 for a Unix socket. */
  readonly port: number;
}

/** Sockets stay half-open until `onSocket` ends them. */
export async function startTcpTarget(
  onSocket: (socket: Socket) => void,
  at: ListenOptions = { host: '127.0.0.1', port: 0 },
): Promise<TcpTarget> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, socket => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
    onSocket(socket);
  });
  server.listen(at);
  await once(server, 'listening');
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>(resolve => void server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

/** Sends everything back, its end included. */
export function startTcpEcho(at?: ListenOptions): Promise<TcpTarget> {
  return startTcpTarget(socket => void socket.pipe(socket), at);
}

/** All that comes until the end; rejects when the socket breaks before. */
export async function readToEnd(socket: Socket, patienceMs?: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within('the end of the socket', once(socket, 'end'), patienceMs);
  return Buffer.concat(chunks);
}
