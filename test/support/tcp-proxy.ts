import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A line between two programs that can be cut or stopped. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Breaks what is open and refuses what comes. */
  cut(): void;
  /** Keeps everything open and forwards nothing, as a network that loses its packets does. */
  stall(): void;
  /** Forwards what the near side says, and keeps back what the far side answers. */
  muffle(): void;
  /** Forwards again, what was held back included. */
  mend(): void;
}

/** Forwards connections to a port on loopback. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const farSockets = new Set<Socket>();
  let state: 'open' | 'cut' | 'stalled' | 'muffled' = 'open';

  const add = (socket: Socket, other: Socket): void => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('data', chunk => void other.write(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      sockets.delete(socket);
      farSockets.delete(socket);
      other.destroy();
    });
    if (state === 'stalled') socket.pause();
  };
  const server = createServer(near => {
    if (state === 'cut') {
      near.destroy();
      return;
    }
    const far = connect(targetPort, '127.0.0.1');
    farSockets.add(far);
    add(near, far);
    add(far, near);
    if (state === 'muffled') far.pause();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');

  return {
    port: address.port,
    cut: () => {
      state = 'cut';
      for (const socket of sockets) socket.destroy();
    },
    stall: () => {
      state = 'stalled';
      for (const socket of sockets) socket.pause();
    },
    muffle: () => {
      state = 'muffled';
      for (const socket of farSockets) socket.pause();
    },
    mend: () => {
      state = 'open';
      for (const socket of sockets) socket.resume();
    },
    [Symbol.asyncDispose]: async () => {
      state = 'cut';
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}
