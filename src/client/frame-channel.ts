import type { Clock } from '../base/clock.ts';

/**
 * What carries frames between this program and the relay: a WebSocket, or a long-poll session. Shows
 * fragments as they arrive and leaves Close to its user, so that a message needs no memory for its
 * whole length and one direction may end before the other.
 */
export interface FrameChannel {
  /** The subprotocol that was chosen; '' when none. */
  readonly protocol: string;
  /** What carries it now: a long-poll session may move to a WebSocket and back. */
  readonly transport: TransportName;
  /** Takes over all events, once, and starts reading. */
  receive(events: ChannelEvents): void;
  /**
   * Sends one fragment. False: stop until `drained`; what was given is sent all the same. The payload
   * belongs to the channel from then on. After `close` it does nothing; on a channel that is broken
   * it says false, and `gone` follows.
   */
  send(opcode: number, fin: boolean, payload: Uint8Array): boolean;
  /** Sends a Close frame, by default without a code; what the peer still sends goes on arriving. Safe to call twice. */
  close(code?: number, reason?: string): void;
  /** Breaks the connection. Safe to call twice. */
  destroy(): void;
  pause(): void;
  resume(): void;
}

export type TransportName = 'websocket' | 'poll';

export interface ChannelEvents {
  /** A piece of a message; the first of each has opcode text or binary, the others continuation. */
  fragment(opcode: number, fin: boolean, payload: Buffer): void;
  /** `send` may go on. */
  drained?(): void;
  /** `transport` has changed; nothing was lost. */
  moved?(transport: TransportName): void;
  /** The peer's Close frame: it sends nothing more. 1005 when it had no code. */
  closed(code: number, reason: string): void;
  /** The last event, once. The code is 1006 when the connection broke before the peer's Close frame. */
  gone(code: number): void;
}

export interface DialOptions {
  readonly clock: Clock;
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
  /** How long it may take until the channel is open, in milliseconds. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /**
   * Whether the channel is cut when its keep-alive goes unanswered: yes for control channels, where the
   * relay answers. On a joined pair it is the other side who answers, or does not.
   */
  readonly cutsWhenSilent?: boolean;
  /**
   * A WebSocket asks at once whether it is heard, and is cut when nothing comes in this time: something
   * on the way may let the handshake through and keep back what follows. As above, where the relay answers.
   */
  readonly firstPongTimeoutMs?: number | undefined;
}

/**
 * Opens a channel to a `ws:` or `wss:` address, used as given, over whichever transport. Rejects with
 * a `RelayError`.
 */
export type Dial = (address: string, options: DialOptions) => Promise<FrameChannel>;
