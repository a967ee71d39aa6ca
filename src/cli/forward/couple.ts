import type { Socket } from 'node:net';
import type { RelayConnection } from '../../client/relay-connection.ts';

/** TCP finds out by itself whether the other end is still there, after so much silence. */
const KEEP_ALIVE_MS = 60_000;

/**
 * Joins a socket and a connection of the relay, byte for byte: the end of one direction ends that
 * direction alone (FIN ↔ Close), each side is read as fast as the other one takes it, and where one
 * breaks the other is broken, so that nobody takes a part for the whole.
 *
 * The socket must allow half-open. Resolves when nothing is left of either; with an error when it broke.
 */
export async function couple(
  socket: Socket,
  connection: RelayConnection,
): Promise<Error | undefined> {
  socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
  const stream = connection.duplex();
  let broken: Error | undefined;
  stream.on('error', error => {
    broken ??= error;
    breakSocket(socket);
  });
  socket.on('error', error => {
    broken ??= error;
    stream.destroy();
  });
  const closed = [socket, stream].map(
    side => new Promise<void>(resolve => void side.once('close', resolve)),
  );
  // Whoever closes without having ended has broken; what is over closes no second time.
  socket.once('close', () => {
    if (!socket.readableEnded || !socket.writableFinished) stream.destroy();
  });
  // Before the pipe passes the end on.
  socket.once('end', () => {
    if (!wasReset(socket)) return;
    broken ??= new Error('the connection was reset');
    stream.destroy();
    socket.destroy();
  });
  socket.pipe(stream).pipe(socket);
  await Promise.all(closed);
  // The Close frame may still be on its way.
  await connection.gone();
  return broken;
}

/**
 * Whether what looks like the end is a reset: where bytes came before it that were not read yet, libuv
 * hands them out and then tells of an end. The system knows no peer any more after a reset, which is
 * also so when both directions have ended: then there is no telling.
 */
function wasReset(socket: Socket): boolean {
  if (isUnix(socket) || socket.writableEnded) return false;
  // Asked for the first time here: Node keeps the answer.
  return socket.remoteAddress === undefined;
}

function isUnix(socket: Socket): boolean {
  return socket.localAddress === undefined;
}

/** A reset, where there is such a thing: an end would look as if all had been said. */
export function breakSocket(socket: Socket): void {
  if (socket.destroyed) return;
  if (isUnix(socket)) socket.destroy();
  else socket.resetAndDestroy();
}
