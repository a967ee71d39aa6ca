import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { HybridConnectionClient } from '../../client/hybrid-connection-client.ts';
import { RelayError } from '../../client/relay-error.ts';
import { CommandError, messageOf } from '../command-error.ts';
import { breakSocket } from './couple.ts';
import { formatSocketAddress, type SocketAddress } from './socket-address.ts';
import type { Streams } from './streams.ts';

export interface LocalEndOptions {
  readonly at: SocketAddress;
  readonly client: HybridConnectionClient;
  readonly streams: Streams;
  /** A connection could not be forwarded, or broke. */
  readonly onFailure: (why: unknown) => void;
  /** A connection was turned away because there are as many as there may be. */
  readonly onFull: () => void;
}

/** A listening socket of this machine: each connection to it becomes one of a sender. */
export interface LocalEnd {
  /** With the port that the system chose, where 0 was asked for. */
  readonly at: SocketAddress;
  /** Takes no new connections. */
  close(): void;
}

/** Listens. Throws `CommandError` when the address is not to be had. */
export async function openLocalEnd(options: LocalEndOptions): Promise<LocalEnd> {
  const { at, client, streams, onFailure, onFull } = options;
  const opening = new Set<AbortController>();
  const take = (socket: Socket): void => {
    if (streams.isFull) {
      breakSocket(socket);
      onFull();
      return;
    }
    const giveUp = new AbortController();
    opening.add(giveUp);
    socket.once('close', () => giveUp.abort());
    streams
      .run(socket, () =>
        client.connect({ signal: giveUp.signal }).finally(() => opening.delete(giveUp)),
      )
      .catch((error: unknown) => {
        // Whoever hung up here knows it.
        if (error instanceof RelayError && error.code !== 'Aborted') onFailure(error);
      });
  };
  // Nothing is read before there is somewhere to put it.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, take);
  try {
    await listen(server, at);
  } catch (error) {
    const isTaken = hasCode(error, 'EADDRINUSE');
    const why = isTaken ? 'another program listens there' : messageOf(error);
    throw new CommandError(`Cannot listen at ${formatSocketAddress(at)}: ${why}`);
  }
  // Such as too many open files: those that are accepted go on.
  server.on('error', onFailure);
  const bound = server.address();
  return {
    at:
      typeof bound === 'object' && bound !== null && 'host' in at
        ? { host: at.host, port: bound.port }
        : at,
    close: () => {
      server.close();
      for (const giveUp of opening) giveUp.abort();
    },
  };
}

async function listen(server: Server, at: SocketAddress): Promise<void> {
  if ('port' in at) {
    await listenOnce(server, at);
    return;
  }
  try {
    await listenOnce(server, at);
  } catch (error) {
    // What a program left behind that was killed is in nobody's use.
    if (!hasCode(error, 'EADDRINUSE') || !(await isAbandoned(at.path))) throw error;
    rmSync(at.path);
    await listenOnce(server, at);
  }
  // Whoever may connect gets as far as the key behind it.
  chmodSync(at.path, 0o600);
}

function listenOnce(server: Server, at: SocketAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** A socket in the file system that nobody listens at. */
function isAbandoned(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', error => resolve(hasCode(error, 'ECONNREFUSED')));
  });
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
