import { Duplex } from 'node:stream';
import { CLOSE_CODE_NONE } from '../protocol/frames.ts';
import { lostError, type FragmentQueue } from './fragment-queue.ts';
import { messageOf } from './relay-error.ts';
import type { RelayConnection } from './relay-connection.ts';

/** See `RelayConnection.duplex`. */
export function connectionDuplex(connection: RelayConnection, queue: FragmentQueue): Duplex {
  let isReading = false;
  let isWanted = false;
  const read = async (): Promise<void> => {
    while (isWanted) {
      const fragment = queue.take();
      if (fragment !== undefined) {
        // An empty message is no end of a stream of bytes, and pushing nothing would be.
        if (fragment.data.length === 0) continue;
        isWanted = false;
        // More may be asked for while it is pushed.
        if (duplex.push(fragment.data)) isWanted = true;
      } else if (queue.isRead) {
        const { code, reason } = await connection.closed;
        if (code !== 1000 && code !== CLOSE_CODE_NONE) throw lostError(code, reason);
        duplex.push(null);
        return;
      } else await queue.ready();
    }
    isReading = false;
  };
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      isWanted = true;
      if (isReading) return;
      isReading = true;
      read().catch((error: unknown) => duplex.destroy(asError(error)));
    },
    write(chunk: Buffer, _encoding, done) {
      connection.send(chunk).then(() => done(), asCallback(done));
    },
    final(done) {
      connection.end(1000).then(() => done(), asCallback(done));
    },
    destroy(error, done) {
      // After both ends the Close frames are on their way, and need no breaking off.
      if (error !== null || !duplex.readableEnded || !duplex.writableFinished) connection.destroy();
      done(error);
    },
  });
  return duplex;
}

function asCallback(done: (error?: Error) => void): (error: unknown) => void {
  return error => done(asError(error));
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
