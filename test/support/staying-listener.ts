import { once } from 'node:events';
import { WebSocket, type RawData } from 'ws';
import { formatResponse, parseServiceMessage } from '../../src/protocol/control-messages.ts';
import type { TestRelay } from './relay.ts';
import { until } from './within.ts';

/** What a listener dials: a balancer, or one node. */
export type Place = Pick<TestRelay, 'wsUrl' | 'token'>;

export interface StayingListenerOptions {
  readonly path?: string;
  readonly id?: string;
  /** What it answers requests with, and its greeting to senders; its path unless told otherwise. */
  readonly name?: string;
}

/** Clients wait a moment before they come back, so that a crowd does not come all at once. */
const RECONNECT_MS = 100;

/**
 * A listener as the libraries are: it comes back by itself whenever its control channel ends, answers
 * every request with its name, and sends back whatever its senders send. Needs only loopback's trust.
 */
export class StayingListener implements AsyncDisposable {
  readonly #place: Place;
  readonly #options: StayingListenerOptions;
  readonly #sockets = new Set<WebSocket>();
  #control: WebSocket | undefined;
  #isStopped = false;
  /** Times it became a listener. */
  listens = 0;
  /** Close codes of its control channels. */
  readonly closes: number[] = [];
  /** Senders it took, and requests it answered. */
  taken = 0;
  answered = 0;

  constructor(place: Place, options: StayingListenerOptions = {}) {
    this.#place = place;
    this.#options = options;
    this.#listen();
  }

  get isListening(): boolean {
    return this.#control?.readyState === WebSocket.OPEN;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    for (const socket of this.#sockets) socket.terminate();
    await until('its sockets are gone', () => this.#sockets.size === 0);
  }

  #open(url: string, headers: Record<string, string> = {}): WebSocket {
    const socket = new WebSocket(url, {
      headers,
      perMessageDeflate: false,
      rejectUnauthorized: false,
    });
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  #listen(): void {
    if (this.#isStopped) return;
    const { path = 'hyco', id } = this.#options;
    const ids = id === undefined ? '' : `&sb-hc-id=${id}`;
    const control = this.#open(`${this.#place.wsUrl}/$hc/${path}?sb-hc-action=listen${ids}`, {
      ServiceBusAuthorization: this.#place.token(path),
    });
    this.#control = control;
    control.once('open', () => (this.listens += 1));
    control.on('message', (data: RawData, isBinary: boolean) => {
      if (!isBinary) this.#message(control, textOf(data));
    });
    control.once('close', (code: number) => {
      if (this.listens > 0) this.closes.push(code);
      setTimeout(() => this.#listen(), RECONNECT_MS * (0.5 + Math.random())).unref();
    });
  }

  #message(control: WebSocket, text: string): void {
    const message = parseServiceMessage(text);
    if (message.type === 'accept') void this.#accept(message.address);
    else if (message.type === 'request') this.#respond(control, message.id);
    else if (message.type === 'requestPointer') {
      const rendezvous = this.#open(message.address);
      rendezvous.on('message', (data: RawData, isBinary: boolean) => {
        if (isBinary) return;
        const request = parseServiceMessage(textOf(data));
        if (request.type === 'request') this.#respond(rendezvous, request.id);
      });
    }
  }

  #respond(socket: WebSocket, requestId: string): void {
    this.answered += 1;
    socket.send(formatResponse({ requestId, statusCode: 200, responseHeaders: {}, body: true }));
    socket.send(Buffer.from(this.#name));
  }

  async #accept(address: string): Promise<void> {
    const socket = this.#open(address);
    socket.on('message', (data: RawData, isBinary: boolean) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(data, { binary: isBinary });
    });
    await once(socket, 'open').catch(() => {});
    if (socket.readyState === WebSocket.OPEN) this.taken += 1;
  }

  get #name(): string {
    return this.#options.name ?? this.#options.path ?? 'hyco';
  }
}

/** Starts listeners a few at a time, as no crowd does, and waits until all listen. */
export async function startListeners(
  count: number,
  open: (index: number) => StayingListener,
  patienceMs = 60_000,
): Promise<StayingListener[]> {
  const atOnce = 100;
  const listeners: StayingListener[] = [];
  for (let i = 0; i < count; i += 1) {
    listeners.push(open(i));
    if (listeners.length % atOnce === 0 || i === count - 1) {
      await until('listeners listen', () => listeners.every(one => one.isListening), patienceMs);
    }
  }
  return listeners;
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return Buffer.isBuffer(data) ? data.toString() : Buffer.from(data).toString();
}
