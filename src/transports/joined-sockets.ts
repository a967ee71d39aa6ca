import type { Socket } from 'node:net';

/**
 * A client's socket and the relay's socket, each byte of one written to the other as fast as the
 * other takes it. An end is passed on as an end, each direction for itself; when one side is lost,
 * what it had sent is still delivered before the other side is closed.
 *
 * Both sockets need `allowHalfOpen` and an `error` listener of their own.
 */
export class JoinedSockets {
  readonly #client: Socket;
  readonly #relay: Socket;
  #moved = 0;
  #standingSinceMs: number | undefined;

  constructor(client: Socket, relay: Socket) {
    this.#client = client;
    this.#relay = relay;
    client.pipe(relay);
    relay.pipe(client);
    client.once('close', () => {
      if (relay.destroyed) return;
      // Not destroyed: a Unix socket whose peer is gone reports a hang-up at once, before the bytes
      // in front of it are read, and the relay would lose them. It closes when it reads the end.
      relay.end();
      relay.resume();
    });
    relay.once('close', () => client.destroySoon());
  }

  /**
   * Since when, by the caller's clock, bytes or an end have been owed and nothing has moved;
   * undefined when nothing is owed or something moved since the last call.
   *
   * A client that takes nothing keeps the relay's socket paused, so not even the relay's close
   * would be seen: only asking again and again finds out.
   */
  standingSinceMs(nowMs: number): number | undefined {
    const moved = bytesThrough(this.#client) + bytesThrough(this.#relay);
    const owed =
      this.#client.writableNeedDrain ||
      this.#client.destroyed ||
      this.#relay.readableEnded ||
      this.#relay.destroyed;
    if (!owed) this.#standingSinceMs = undefined;
    else if (moved !== this.#moved) this.#standingSinceMs = nowMs;
    else this.#standingSinceMs ??= nowMs;
    this.#moved = moved;
    return this.#standingSinceMs;
  }

  destroy(): void {
    this.#client.destroy();
    this.#relay.destroy();
  }
}

/** Bytes that left through this socket; those still waiting in it have not. */
function bytesThrough(socket: Socket): number {
  return socket.bytesWritten - socket.writableLength;
}
