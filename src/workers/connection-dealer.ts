import { createServer, type Socket } from 'node:net';
import type { ProcessLine } from './line.ts';

export interface ConnectionDealer {
  readonly port: number;
  close(): void;
}

/**
 * Accepts connections and deals them out in turn, untouched. Only where several processes cannot listen on one port
 * themselves: `net.Server` of Node 20 cannot. Rejects when the address cannot be had.
 */
export async function dealConnections(
  address: { readonly host: string; readonly port: number },
  deps: {
    /** Who takes connections at the moment; while it is nobody they are closed. */
    readonly takers: () => readonly ProcessLine[];
    readonly onError: (error: Error) => void;
  },
): Promise<ConnectionDealer> {
  let turn = 0;
  const deal = (connection: Socket): void => {
    const takers = deps.takers();
    const taker = takers[turn % Math.max(1, takers.length)];
    turn += 1;
    if (taker === undefined) connection.destroy();
    else taker.sendConnection(connection);
  };
  // Paused: the first bytes are the worker's to read.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, deal);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', deps.onError);
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : address.port,
    close: () => void server.close(),
  };
}
