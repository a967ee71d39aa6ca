import type { CancelTimer, Clock } from '../base/clock.ts';
import { parseListenerMessage } from '../protocol/control-messages.ts';
import { closeReason } from '../protocol/refusals.ts';
import type { RelayEvents } from './events.ts';
import type { HybridConnection } from './hybrid-connection.ts';
import type { ControlSocket, ListenerResponse, Pending, ReachableListener } from './ports.ts';

/**
 * One listener's control channel.
 *
 *     idle ── response with body ──▶ body-due ── the next message ──▶ idle
 *     idle or body-due ── closed ──▶ closed
 *
 * A response and its body are two messages with nothing between, so whatever follows an announced
 * body is that body. `closed` is final.
 */
type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'body-due'; readonly response: ListenerResponse }
  | { readonly phase: 'closed' };

export type DisconnectReason =
  | 'closed-by-listener'
  | 'lost'
  | 'token-expired'
  | 'renewal-refused'
  | 'draining'
  | 'rebalanced'
  | 'deleted'
  | 'replaced'
  | 'message-too-big';

/** What a renewed token is worth: until when, or why it is refused. */
export type Renewal = { readonly expiresAtMs: number } | { readonly refused: string };

export interface ControlChannelDeps {
  readonly clock: Clock;
  readonly events: RelayEvents;
  readonly tokenGraceMs: number;
  /** Checks a `renewToken` for this listener. */
  readonly renew: (token: string) => Renewal;
  /** For an answer to a request that is not from this node; false: it is from nowhere. */
  readonly answerElsewhere: (response: ListenerResponse, body: Uint8Array) => boolean;
  /** Called once, when the channel has ended for whatever reason. */
  readonly onEnd: (listener: ControlChannel, reason: DisconnectReason) => void;
}

const NOTHING = new Uint8Array(0);

export class ControlChannel implements ReachableListener {
  readonly hybridConnection: HybridConnection;
  /** The GUID part of the id it connected with, lower case; libraries reuse it when they reconnect. */
  readonly listenerId: string;
  /** What rendezvous addresses for it begin with. */
  readonly origin: string;
  /** By the clock that never goes back. */
  readonly connectedAtMs: number;
  readonly transport: 'websocket' | 'poll';
  readonly #socket: ControlSocket;
  readonly #deps: ControlChannelDeps;
  readonly #pending = new Set<Pending>();
  #state: State = { phase: 'idle' };
  #cancelExpiry: CancelTimer = () => {};
  /** Set while it takes nothing new and only waits for what it holds: how it ends then. */
  #endWhenSettled: (() => void) | undefined;
  /** Why we closed it, when it was we who did. */
  #closing: DisconnectReason | undefined;

  constructor(
    identity: { hybridConnection: HybridConnection; listenerId: string; origin: string },
    socket: ControlSocket,
    expiresAtMs: number,
    deps: ControlChannelDeps,
  ) {
    this.hybridConnection = identity.hybridConnection;
    this.listenerId = identity.listenerId;
    this.origin = identity.origin;
    this.connectedAtMs = deps.clock.nowMs();
    this.transport = socket.transport ?? 'websocket';
    this.#socket = socket;
    this.#deps = deps;
    this.#armExpiry(expiresAtMs);
  }

  /** How many offers and requests it holds that are not settled; the measure of how busy it is. */
  get outstanding(): number {
    return this.#pending.size;
  }

  /** It takes nothing new: it ends as soon as its answers are out, or has ended. */
  get isLeaving(): boolean {
    const { phase } = this.#state;
    return this.#endWhenSettled !== undefined || this.#closing !== undefined || phase === 'closed';
  }

  /** False: too much waits on this channel already, or it is closing; nothing was sent. */
  offer(pending: Pending, text: string, body?: Uint8Array): boolean {
    if (this.isLeaving) return false;
    if (!this.#socket.send(text, body)) return false;
    this.#pending.add(pending);
    return true;
  }

  settled(pending: Pending): void {
    this.#pending.delete(pending);
    if (this.#pending.size === 0) this.#endWhenSettled?.();
  }

  /** One whole text message from the listener. */
  text(message: string): void {
    const state = this.#state;
    if (state.phase === 'closed') return;
    if (state.phase === 'body-due') {
      this.#state = { phase: 'idle' };
      this.#requestOf(state.response)?.answerBroken('its body was announced but did not follow');
    }
    const parsed = parseListenerMessage(message);
    switch (parsed.type) {
      case 'response':
        if (parsed.body) this.#state = { phase: 'body-due', response: parsed };
        else this.#answer(parsed, NOTHING);
        return;
      case 'renewToken':
        this.#renew(parsed.token);
        return;
      case 'unreadable':
        this.#deps.events.messageIgnored('unreadable', this, parsed.why);
    }
  }

  /** One whole binary message. `bytes` is lent for the call only. */
  binary(bytes: Uint8Array): void {
    const state = this.#state;
    if (state.phase === 'closed') return;
    if (state.phase === 'body-due') {
      this.#state = { phase: 'idle' };
      this.#answer(state.response, bytes);
      return;
    }
    // hyco-https sends an empty message after HEAD, 204 and 304 although it announced no body.
    if (bytes.length > 0) {
      this.#deps.events.messageIgnored('stray-body', this, `${bytes.length} bytes`);
    }
  }

  /** A message over the limit arrived: the channel cannot be followed any further. */
  tooBig(): void {
    this.end('message-too-big', 1009, 'Control channel message is too big');
  }

  /** Closes the channel with a code and a reason; `reason` is what logs and metrics say. */
  end(reason: DisconnectReason, code: number, text: string): void {
    if (this.#state.phase === 'closed' || this.#closing !== undefined) return;
    this.#closing = reason;
    this.#socket.close(code, closeReason(text));
  }

  /** Takes nothing new, and closes like `end` as soon as nothing is outstanding: answers come back on this channel. */
  endWhenSettled(reason: DisconnectReason, code: number, text: string): void {
    this.#endWhenSettled = () => this.end(reason, code, text);
    this.hybridConnection.leaving();
    if (this.#pending.size === 0) this.#endWhenSettled();
  }

  /** The socket is gone; 1006 without a Close frame. */
  closed(code: number): void {
    if (this.#state.phase === 'closed') return;
    this.#state = { phase: 'closed' };
    this.#cancelExpiry();
    this.#deps.onEnd(this, this.#closing ?? (code === 1006 ? 'lost' : 'closed-by-listener'));
    const pending = [...this.#pending];
    this.#pending.clear();
    for (const one of pending) one.listenerLost();
  }

  #requestOf(response: ListenerResponse): ReturnType<HybridConnection['requests']['get']> {
    // By hybrid connection, not by channel: after a reconnect listeners answer on the new channel.
    return this.hybridConnection.requests.get(response.requestId);
  }

  #answer(response: ListenerResponse, body: Uint8Array): void {
    const request = this.#requestOf(response);
    if (request !== undefined) request.answerInline(response, body);
    else if (!this.#deps.answerElsewhere(response, body)) {
      this.#deps.events.messageIgnored('unknown-request', this, 'late, repeated or never asked');
    }
  }

  #renew(token: string): void {
    const renewal = this.#deps.renew(token);
    if ('refused' in renewal) {
      this.end('renewal-refused', 1008, renewal.refused);
      return;
    }
    this.#armExpiry(renewal.expiresAtMs);
  }

  #armExpiry(expiresAtMs: number): void {
    this.#cancelExpiry();
    const { clock, tokenGraceMs } = this.#deps;
    // Clients renew at the moment of expiry, not before; without grace each would drop every hour.
    const delayMs = Math.max(0, expiresAtMs - clock.wallMs()) + tokenGraceMs;
    this.#cancelExpiry =
      delayMs > EXPIRY_CHECK_MS
        ? clock.after(EXPIRY_CHECK_MS, () => this.#armExpiry(expiresAtMs))
        : clock.after(delayMs, () =>
            this.end('token-expired', 1008, 'ExpiredToken: The token of this listener is expired'),
          );
  }
}

/** Longest single wait for an expiry: timers cannot wait for years, and tokens may live that long. */
const EXPIRY_CHECK_MS = 24 * 3_600_000;
