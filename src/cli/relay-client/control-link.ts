import { WebSocket, type RawData } from 'ws';
import type { CancelTimer, Clock } from '../../base/clock.ts';
import { formatRenewToken, parseServiceMessage } from '../../protocol/control-messages.ts';
import type { ServiceMessage } from '../../protocol/control-messages.ts';
import { HandshakeRefused } from './frame-socket.ts';

// A listener's control channel, kept open: connects, reconnects, renews its token, and hands on what the relay says.
// To be replaced by src/client/ when that exists.

export type Accept = Extract<ServiceMessage, { readonly type: 'accept' }>;
export type Request = Extract<ServiceMessage, { readonly type: 'request' }>;

export interface ControlLinkOptions {
  /** The whole address, `sb-hc-action=listen` included. */
  readonly address: string;
  /** A token that is good from now until `tokenTtlMs` later. */
  readonly token: () => string;
  readonly tokenTtlMs: number;
  /** Whether `token` gives new ones; without, the channel ends with its token. */
  readonly canRenew: boolean;
  readonly clock: Clock;
  readonly onAccept: (accept: Accept) => void;
  /** A request in full, with its body when it has one. */
  readonly onRequest: (request: Request, body: Buffer) => void;
  /** A request that waits at an address. */
  readonly onRequestPointer: (address: string) => void;
  readonly onOpen: () => void;
  /** The channel ended or could not be opened; the next try comes after `retryMs`. */
  readonly onDown: (why: Error, retryMs: number) => void;
}

const HANDSHAKE_TIMEOUT_MS = 20_000;
/** Two pings without any answer mean that the path is dead, whatever TCP believes. */
const PING_MS = 30_000;
/** Renewed after this share of a token's life, so that a slow clock or a lost message does no harm. */
const RENEW_AFTER = 0.75;
const BACKOFF_MS = { first: 500, max: 30_000 };
/** The relay's own limit is 64 KiB; more means that this is no relay. */
const MESSAGE_BYTES_MAX = 1_048_576;
/** Refusals that waiting does not cure, when they answer the very first try. */
const FINAL_STATUSES: ReadonlySet<number> = new Set([400, 401, 403, 404, 409]);

export class ControlLink {
  readonly #options: ControlLinkOptions;
  #socket: WebSocket | undefined;
  readonly #timers = new Map<TimerName, CancelTimer>();
  #failures = 0;
  #wasOpen = false;
  #stopped = false;
  #expectsBodyOf: Request | undefined;
  #end: { resolve: () => void; reject: (why: Error) => void } | undefined;

  constructor(options: ControlLinkOptions) {
    this.#options = options;
  }

  /** Runs until `stop`; rejects when the very first try is refused for good. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
      this.#connect();
    });
  }

  /** Closes the channel, as a listener that goes away does. */
  stop(): void {
    this.#stopped = true;
    this.#clearTimers();
    if (this.#socket === undefined) this.#end?.resolve();
    else this.#socket.close(1000, 'Normal Closure');
  }

  /** Sends a message and right behind it its body; dropped when the channel is down: the request is lost then. */
  send(text: string, body?: Uint8Array): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(text);
    if (body !== undefined) this.#socket.send(body, { binary: true });
  }

  #connect(): void {
    const socket = new WebSocket(this.#options.address, {
      headers: { ServiceBusAuthorization: this.#options.token() },
      perMessageDeflate: false,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: MESSAGE_BYTES_MAX,
    });
    this.#socket = socket;
    this.#expectsBodyOf = undefined;
    let why: Error | undefined;
    let alive = true;
    socket.on('unexpected-response', (request, response) => {
      why = new HandshakeRefused(response.statusCode ?? 0, response.statusMessage ?? '');
      request.destroy(why);
    });
    socket.on('error', error => {
      why ??= error;
    });
    socket.on('open', () => {
      this.#failures = 0;
      this.#wasOpen = true;
      this.#keepAlive(socket, () => {
        const wasAlive = alive;
        alive = false;
        return wasAlive;
      });
      if (this.#options.canRenew) this.#renewLater();
      this.#options.onOpen();
    });
    for (const sign of ['ping', 'pong', 'message'] as const) {
      socket.on(sign, () => {
        alive = true;
      });
    }
    socket.on('message', (data, isBinary) => this.#message(data, isBinary));
    socket.on('close', (code, reason) => {
      this.#down(why ?? new Error(`the relay closed with ${code} ${reason.toString()}`.trimEnd()));
    });
  }

  #message(data: RawData, isBinary: boolean): void {
    const bytes = bufferOf(data);
    const request = this.#expectsBodyOf;
    this.#expectsBodyOf = undefined;
    if (isBinary) {
      if (request !== undefined) this.#options.onRequest(request, bytes);
      return;
    }
    const message = parseServiceMessage(bytes.toString('utf8'));
    if (message.type === 'accept') this.#options.onAccept(message);
    else if (message.type === 'requestPointer') this.#options.onRequestPointer(message.address);
    else if (message.type === 'request') {
      // The body is the next message, with nothing between.
      if (message.body) this.#expectsBodyOf = message;
      else this.#options.onRequest(message, Buffer.alloc(0));
    }
  }

  #keepAlive(socket: WebSocket, wasAlive: () => boolean): void {
    this.#after('ping', PING_MS, () => {
      if (!wasAlive()) {
        socket.terminate();
        return;
      }
      socket.ping();
      this.#keepAlive(socket, wasAlive);
    });
  }

  #renewLater(): void {
    this.#after('renew', this.#options.tokenTtlMs * RENEW_AFTER, () => {
      this.send(formatRenewToken(this.#options.token()));
      this.#renewLater();
    });
  }

  #down(why: Error): void {
    this.#clearTimers();
    this.#socket = undefined;
    if (this.#stopped) {
      this.#end?.resolve();
      return;
    }
    if (!this.#wasOpen && why instanceof HandshakeRefused && FINAL_STATUSES.has(why.status)) {
      this.#end?.reject(why);
      return;
    }
    const ceilingMs = Math.min(BACKOFF_MS.max, BACKOFF_MS.first * 2 ** this.#failures);
    this.#failures += 1;
    // Jitter, so that a thousand listeners do not come back in the same instant.
    const retryMs = Math.round(ceilingMs * (0.5 + Math.random() / 2));
    this.#options.onDown(why, retryMs);
    this.#after('retry', retryMs, () => this.#connect());
  }

  #after(name: TimerName, delayMs: number, task: () => void): void {
    this.#timers.set(name, this.#options.clock.after(delayMs, task));
  }

  #clearTimers(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }
}

type TimerName = 'ping' | 'renew' | 'retry';

function bufferOf(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
