import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * Where free ports are looked for: below those that the system gives to outgoing connections, of
 * which a busy test run makes so many that one is likely to take a port between its choice and its use.
 */
const PORTS = { from: 12_000, to: 32_000 };
const ATTEMPTS_MAX = 100;

/** A port that nobody listens on. Somebody could take it before it is used; nobody is likely to. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    if (await isFree(port)) return port;
  }
  throw new Error('No free port found');
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch {
    return false;
  }
  await new Promise(resolve => void server.close(resolve));
  return true;
}

/** Whether something listens on a port of this machine. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
