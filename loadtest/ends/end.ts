/** One end of a pair that is laid through a relay. */
export interface End {
  /** Sends one message. Resolves when it is time for another, where the library says so: others leave that to the caller. */
  send(message: Uint8Array): Promise<void>;
  /** Called with each message of the other end; set once. */
  onMessage: (message: Buffer) => void;
  /** Reads nothing until it resolves; set before it is to be so. */
  stalled: Promise<void> | undefined;
}

/** Two ends that are joined: what one sends the other gets. */
export interface EndPair {
  /** Dialled as a sender. */
  readonly sender: End;
  /** Accepted it as a listener. */
  readonly listener: End;
}

/** By which library, over which transport the ends go to a relay. */
export type EndKind = 'websocket' | 'poll' | 'socket.io';
