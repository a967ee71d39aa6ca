import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import type { RelayConnection } from '../../client/relay-connection.ts';
import { breakSocket, couple } from './couple.ts';

/** What is forwarded now: at most so many streams, those included that are being opened. */
export class Streams {
  readonly #max: number;
  readonly #sockets = new Set<Socket>();
  #whenEmpty: (() => void) | undefined;

  constructor(max: number) {
    this.#max = max;
  }

  get isFull(): boolean {
    return this.#sockets.size >= this.#max;
  }

  /** How many they are. */
  get size(): number {
    return this.#sockets.size;
  }

  /**
   * Forwards between `socket` and what `open` resolves with, until both are done; resolves then. Rejects
   * with what `open` rejects with, or with how it broke; the socket is broken, too.
   */
  async run(socket: Socket, open: () => Promise<RelayConnection>): Promise<void> {
    this.#sockets.add(socket);
    // Until it is joined its errors are of interest to nobody else.
    socket.on('error', () => undefined);
    try {
      const connection = await open();
      if (socket.destroyed) {
        connection.destroy();
        return;
      }
      const broken = await couple(socket, connection);
      if (broken !== undefined) throw broken;
    } finally {
      breakSocket(socket);
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#whenEmpty?.();
    }
  }

  /** Gives those that are open `timeoutMs` to end, then breaks them. */
  async drain(timeoutMs: number, clock: Clock): Promise<void> {
    if (this.#sockets.size === 0) return;
    let cancel: CancelTimer | undefined;
    await new Promise<void>(resolve => {
      this.#whenEmpty = resolve;
      cancel = clock.after(timeoutMs, resolve);
    });
    cancel?.();
    for (const socket of this.#sockets) breakSocket(socket);
  }
}
