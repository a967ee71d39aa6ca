// What the core asks of the outside, in its own words. Transports implement it; tests have doubles.
import type { ListenerMessage, RemoteEndpoint } from '../protocol/control-messages.ts';
import type { RendezvousId } from '../protocol/ids.ts';
import type { HeaderPairs } from '../protocol/relayed-headers.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import type { RelayQuery } from '../protocol/relay-url.ts';
import type { RequestPath } from '../protocol/request-path.ts';

/** The part of an incoming handshake or request that the core decides upon. */
export interface RelayRequest {
  /** `Host` as sent, port included. */
  readonly host: string;
  /** What rendezvous addresses for this peer begin with: `ws://host:port` or `wss://host:port`. */
  readonly origin: string;
  readonly path: RequestPath;
  readonly query: RelayQuery;
  readonly headers: HeaderPairs;
  readonly remote: RemoteEndpoint;
}

/** The relay's own no, ready to be written: status line, text with tracking id, and its reason. */
export interface Refused {
  readonly reason: RefusalReason;
  readonly status: number;
  readonly text: string;
  /** What the text says beyond the reason. */
  readonly detail?: string | undefined;
}

/** WebSocket opcodes (RFC 6455 section 5.2) as the core sees them; ping and pong stay below it. */
export const OPCODE = { continuation: 0, text: 1, binary: 2 } as const;
export type DataOpcode = (typeof OPCODE)[keyof typeof OPCODE];

/**
 * Everything that carries frames: a WebSocket of ours; later a long-poll session or a stream from
 * another node. It speaks in fragments as they arrive, so messages have no size limit.
 */
export interface Channel {
  /** Said in logs; undefined: a WebSocket, or whatever another node has. */
  readonly transport?: 'poll';
  /** Takes over all events of the channel, once; reading starts with the first `resume`. */
  receive(receiver: ChannelReceiver): void;
  /** Sends one fragment. False: stop until `drained`; what was given is queued all the same. */
  send(opcode: DataOpcode, fin: boolean, payload: Uint8Array): boolean;
  /**
   * Sends a Close frame; the other direction goes on until the peer's own Close. Safe to call twice. How long a silent
   * peer may take for that is the channel's to say. `isPassedOn`: this is the Close of the other side of a pair, which
   * is still there to be answered, so the peer may take its time; the next call without it ends that.
   */
  close(code: number, reason: string, isPassedOn?: boolean): void;
  /** Breaks the channel without a Close frame. Safe to call twice. */
  destroy(): void;
  pause(): void;
  resume(): void;
}

export interface ChannelReceiver {
  /** `payload` is lent for the call only. */
  fragment(opcode: DataOpcode, fin: boolean, payload: Uint8Array): void;
  drained(): void;
  /** The peer's Close frame arrived; 1005 when it had no code. */
  closed(code: number, reason: string): void;
  /** Last event, exactly once. */
  gone(): void;
}

/** How one side of a finished pair ended. */
export interface SideEnd {
  /** Code of its Close frame, 1005 when it had none, 1006 without a Close frame. */
  readonly closeCode: number;
  readonly cause: string;
}

export interface PairEnd {
  readonly sender: SideEnd;
  readonly listener: SideEnd;
  readonly first: 'sender' | 'listener';
  readonly bytesToListener: number;
  readonly bytesToSender: number;
}

/** Traffic of one hybrid connection: [bytes to listener, bytes to sender, frames to listener, frames to sender]. */
export type TrafficCounters = Float64Array;

/** Joins two channels below the core where that is possible, so that bytes never reach JavaScript. */
export interface DataPlane {
  /** False: these two cannot be joined natively, and the core forwards fragments itself. */
  join(
    sender: Channel,
    listener: Channel,
    counters: TrafficCounters,
    onEnd: (end: PairEnd) => void,
  ): boolean;
}

/** Something put before a listener that it has not settled yet. */
export interface Pending {
  /** What the listener will dial or answer with. */
  readonly id: RendezvousId;
  /** Its control channel ended first, or it never got what was put before it. */
  listenerLost(): void;
  /** The listener did not take it after all, and never saw it; without this as if it were lost. */
  notTaken?(): void;
}

/** A listener that senders can be put before: on this node or on another. */
export interface ReachableListener {
  /** The GUID part of the id it connected with, lower case; libraries reuse it when they reconnect. */
  readonly listenerId: string;
  /** What rendezvous addresses for it begin with. */
  readonly origin: string;
  /** How many offers and requests from here it has not settled; the measure of how busy it is. */
  readonly outstanding: number;
  /** False: too much waits for it already, or it is going; nothing was sent. */
  offer(pending: Pending, text: string, body?: Uint8Array): boolean;
  settled(pending: Pending): void;
}

/** What a listener that wants to come in is asked for among all nodes: one of the places there are. */
export interface Claim {
  readonly namespace: string;
  readonly hybridConnection: string;
  readonly listenerId: string;
  readonly origin: string;
}

/** The other nodes, as the core sees them. */
export interface Cluster {
  /** This node's tag in the ids it makes. */
  readonly nodeTag: string;
  /** `decided` is called once, now or later; whoever got a place gives it back by `release`. */
  claim(claim: Claim, decided: (place: ClaimedPlace | ClaimRefusal) => void): void;
  /** A listener here answers a request that is not from here. False: it is from nowhere. */
  answerElsewhere(from: EntityName, response: ListenerResponse, body: Uint8Array): boolean;
}

/** A hybrid connection by its names. */
export interface EntityName {
  readonly namespace: string;
  readonly hybridConnection: string;
}

export type ClaimRefusal = 'listeners-max' | 'overloaded';

export interface ClaimedPlace {
  /** The control channel that the place was claimed for is open: offers may be put before it. */
  opened(listener: ReachableListener): void;
  /** Safe to call twice, also before `opened`. */
  release(): void;
}

export type ListenerResponse = Extract<ListenerMessage, { readonly type: 'response' }>;

/** A listener's control WebSocket, as its `ControlChannel` uses it. */
export interface ControlSocket {
  /** Said in logs; undefined: a WebSocket. */
  readonly transport?: 'poll';
  /**
   * Queues one JSON text message and, right behind it with nothing between, its binary body.
   * False: the limit of bytes waiting is reached and nothing was queued.
   */
  send(text: string, body?: Uint8Array): boolean;
  close(code: number, reason: string): void;
}

/** A sender's WebSocket handshake, held open until its listener dials. */
export interface HeldSender {
  /** Finishes the handshake; `opened` is not called when the sender has gone meanwhile. */
  complete(protocol: string | undefined, opened: (channel: Channel) => void): void;
  /** Ends the handshake with the relay's own no. */
  refuse(refused: Refused): void;
  /** Ends the handshake with the listener's no: its status (200 to 999) and its words. */
  reject(status: number, description: string): void;
}

export interface ResponseHead {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly headers: HeaderPairs;
  /** Answers to HEAD, 204 and 304 carry no body, whatever the listener sent. */
  readonly bodyless: boolean;
  /** What a HEAD answer reports. */
  readonly contentLength?: number;
}

/** The request body of an HTTP sender, streamed. Begins paused. */
export interface RequestBody {
  /** `chunk` is lent for the call only; `isLast` comes exactly once, perhaps with an empty chunk. */
  read(sink: (chunk: Uint8Array, isLast: boolean) => void): void;
  pause(): void;
  resume(): void;
}

/** An HTTP request as its answer is written. After `end`, `respond`, `refuse` or `abort` nothing is called. */
export interface HttpSender {
  respond(head: ResponseHead, body: Uint8Array): void;
  start(head: ResponseHead, drained: () => void): void;
  /** False: stop until `drained`. */
  write(chunk: Uint8Array): boolean;
  end(): void;
  /** Breaks the connection: the answer began and cannot be finished. */
  abort(): void;
  refuse(refused: Refused): void;
}

export interface Randomness {
  uuid(): string;
  /** 128 random bits in lower-case hex. */
  secretHex(): string;
  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number;
}

/** Counts what happens in a connection's life; never called per message. */
export interface Meter {
  count(name: string, labels: Readonly<Record<string, string>>): void;
  observe(name: string, value: number, labels: Readonly<Record<string, string>>): void;
}
