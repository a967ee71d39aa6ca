/** Every bound the core keeps. Values come from config/options.ts, which has units, defaults and help. */
export interface RelayLimits {
  readonly acceptTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly responseIdleTimeoutMs: number;
  readonly tokenGraceMs: number;
  /** Of one node among others: how long a sender waits for a listener that may be there in a moment. */
  readonly listenerWaitMs: number;
  readonly listenersMax: number;
  readonly hybridConnectionsMax: number;
  /** Senders at once: waiting for a listener, joined, and HTTP requests in flight. */
  readonly sendersMax: number;
  readonly controlMessageBytesMax: number;
  readonly bodyBufferBytesMax: number;
}

/** Largest body on a control channel. Source: azure-relay-protocol.md section 3.2, inclusive. */
export const INLINE_BODY_BYTES_MAX = 65_536;

/**
 * Largest JSON message we send: .NET reads into a fixed buffer of 64 KiB and never finishes on a
 * longer one; such a request goes by rendezvous instead.
 */
export const CONTROL_JSON_BYTES_MAX = 65_535;

/**
 * How long a request or offer outlives the control channel it was sent on. Clients reconnect at once
 * and answer on the new channel; one that does not come back should not cost its sender the whole wait.
 */
export const LISTENER_LOSS_GRACE_MS = 5_000;

/**
 * How long senders wait for a listener that was asked to connect again: a second for the handshakes of a
 * distant client, and room for one that waits before it begins.
 */
export const LISTENER_RETURN_MS = 3_000;

/** Senders that wait for a listener to come, of all hybrid connections together; one more is refused at once. */
export const HELD_SENDERS_MAX = 2_000;

/** What the peers of a hybrid connection are told when it is deleted. */
export const DELETED = 'The hybrid connection was deleted';

/** What a listener is told whose place a newer one has taken. */
export const REPLACED = 'A newer listener has taken the place of this one';
