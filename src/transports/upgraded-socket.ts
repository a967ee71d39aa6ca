import type { WebSocket } from 'uWebSockets.js';

/** What sits behind a WebSocket of ours: the route hands each of its events to this. */
export interface UpgradedSocket {
  opened(ws: WebSocket<SocketData>): void;
  /** `message` is lent for the call only. */
  message(message: ArrayBuffer, isBinary: boolean): void;
  drained(): void;
  /** The socket must not be touched any more. */
  closed(code: number, reason: string): void;
}

/**
 * What uWebSockets.js keeps for us with a socket. It copies own properties of this onto its own
 * object, so a class instance itself would lose its methods.
 */
export interface SocketData {
  readonly socket: UpgradedSocket;
}
