import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { sleep } from '../support/process.ts';

const ACCEPTING_TIMEOUT_MS = 5_000;

/** Finds the port in a line of JSON that has one. */
export function portOf(line: string): number | undefined {
  if (!line.startsWith('{')) return undefined;
  const { port }: { readonly port?: unknown } = JSON.parse(line);
  return typeof port === 'number' ? port : undefined;
}

/** The port of a server that listens on TCP, from what its `address()` says. */
export function boundPort(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('Not listening on TCP');
  return address.port;
}

/** A port that was free a moment ago, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = boundPort(server.address());
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits until something accepts on the port. */
export async function accepting(port: number): Promise<void> {
  const untilMs = performance.now() + ACCEPTING_TIMEOUT_MS;
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    if (performance.now() > untilMs) throw new Error(`Nothing accepts on port ${port}`);
    await sleep(20);
  }
}
