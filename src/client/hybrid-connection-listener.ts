import { EventEmitter } from 'node:events';
import { randomUUID } from 'node:crypto';
import type { Answer, RelayedRequest } from './answer.ts';
import { ControlLink, type RetryInfo } from './control-link.ts';
import type { TransportName } from './frame-channel.ts';
import { Later } from './later.ts';
import { RelayError, unlessAborted } from './relay-error.ts';
import { relayTarget, type RelayOptions, type RelayTarget } from './relay-target.ts';
import { answerAtAddress, answerInline, type ExchangeDeps } from './request-exchange.ts';
import { SenderOffer } from './sender-offer.ts';

/** What is done with what senders send. Without a handler they are turned away with 501. */
export interface ListenerHandlers {
  /** Accepts or rejects, now or later. When it fails before it did, the sender is turned away with 502. */
  readonly onConnection?: (offer: SenderOffer) => unknown;
  /** When it fails, the sender gets 500. */
  readonly onRequest?: (request: RelayedRequest) => Answer | Promise<Answer>;
}

export interface ListenerEvents {
  /** The relay hands on senders from now on. */
  readonly online: [transport: TransportName];
  /** It was online, and is not any more. Accepted connections live on. */
  readonly offline: [why: RelayError];
  /** The next try to become online comes after `delayMs`. */
  readonly reconnecting: [retry: RetryInfo];
  /** The control channel goes on over another transport, or is opened over another one than before. */
  readonly transport: [transport: TransportName];
  /** A handler failed, a sender was gone when it was accepted, a token could not be renewed. All go on. */
  readonly error: [why: unknown];
}

/**
 *     idle ── open ──▶ opening ── 101 ──▶ online ◀──▶ offline
 *     opening ── refused ──▶ closed
 *     any ── close ──▶ closed
 */
export type ListenerState = 'idle' | 'opening' | 'online' | 'offline' | 'closed';

/** Takes what senders send to a hybrid connection, and stays there until it is closed. */
export class HybridConnectionListener {
  /** Names this listener to the relay, over all its control channels. */
  readonly id = randomUUID();
  readonly #target: RelayTarget;
  readonly #handlers: ListenerHandlers;
  readonly #events = new EventEmitter();
  readonly #link: ControlLink;
  #state: ListenerState = 'idle';
  #transport: TransportName | undefined;
  /** Exchanges of requests that are under way. */
  readonly #exchanges = new Set<Promise<void>>();
  #run: Promise<void> = Promise.resolve();

  /** Throws a `TypeError` when the options do not say where to listen, or have no key or token. */
  constructor(options: RelayOptions, handlers: ListenerHandlers) {
    this.#target = relayTarget(options);
    this.#handlers = handlers;
    const { token, dial, clock, path, webSocketOrigin } = this.#target;
    if (token === undefined) {
      throw new TypeError('Cannot listen without a key: give one, or a `tokenProvider`');
    }
    const exchange: ExchangeDeps = {
      clock,
      dial,
      sendOnControl: (text, body) => this.#link.send(text, body),
      answer: request => this.#answer(request),
      onFailure: error => this.#report(error),
    };
    this.#link = new ControlLink({
      address: `${webSocketOrigin}/$hc/${path}?sb-hc-action=listen&sb-hc-id=${this.id}`,
      dial,
      clock,
      getToken: token,
      onAccept: accept => void this.#offer(new SenderOffer(accept, { clock, dial })),
      onRequest: (request, body) => this.#keep(answerInline(request, body, exchange)),
      onRequestPointer: address => this.#keep(answerAtAddress(address, exchange)),
      onOnline: transport => {
        this.#state = 'online';
        this.#emit('online', transport);
        this.#moved(transport);
      },
      onMoved: transport => this.#moved(transport),
      onOffline: why => {
        if (this.#state === 'online') this.#state = 'offline';
        this.#emit('offline', why);
      },
      onRetry: retry => this.#emit('reconnecting', retry),
      onRenewalFailure: error => this.#report(error),
    });
  }

  get state(): ListenerState {
    return this.#state;
  }

  /** What carries the control channel, or did so last; undefined before it was online. */
  get transport(): TransportName | undefined {
    return this.#transport;
  }

  /** `https://host:port/path`, where senders send requests. */
  get url(): string {
    return `${this.#target.httpOrigin}/${this.#target.path}`;
  }

  /** Calls back at an event, every time. An `error` that nobody listens for does no harm. */
  on<Name extends keyof ListenerEvents>(
    name: Name,
    observer: (...details: ListenerEvents[Name]) => void,
  ): this {
    this.#events.on(name, observer);
    return this;
  }

  off<Name extends keyof ListenerEvents>(
    name: Name,
    observer: (...details: ListenerEvents[Name]) => void,
  ): this {
    this.#events.off(name, observer);
    return this;
  }

  /**
   * Resolves when it is online. What waiting may cure, such as a relay that is not there yet, is tried
   * again until `signal` ends it; rejects with a `RelayError` for everything else, and is closed then.
   */
  async open(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#state !== 'idle') {
      throw new RelayError('Closed', `A listener is opened once, and this one is ${this.#state}`);
    }
    this.#state = 'opening';
    const online = new Later<void>();
    this.on('online', () => online.resolve());
    this.#run = this.#link.run();
    const ended = this.#run.then(() => {
      throw new RelayError('Closed', 'The listener was closed before it was online');
    });
    ended.catch((error: unknown) => {
      // Once it is online only a bug ends it.
      if (this.#state !== 'opening' && this.#state !== 'closed') this.#report(error);
    });
    try {
      await unlessAborted(
        'To open the listener',
        options.signal,
        Promise.race([online.promise, ended]),
      );
    } catch (error) {
      this.#state = 'closed';
      this.#link.stop();
      throw error;
    }
  }

  /**
   * Takes nothing new. Resolves when the relay knows it and the requests that were under way are
   * answered. Accepted connections live on until they end. Safe to call twice.
   *
   * @param options.timeoutMs how long requests may take to be answered, 30 s by default
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#state = 'closed';
    this.#link.stop();
    await this.#run.catch(() => undefined);
    const { clock } = this.#target;
    await new Promise<void>(resolve => {
      const cancel = clock.after(options.timeoutMs ?? CLOSE_TIMEOUT_MS, resolve);
      Promise.allSettled(this.#exchanges).then(() => {
        cancel();
        resolve();
      }, unreachableRejection);
    });
  }

  #moved(transport: TransportName): void {
    if (transport === this.#transport) return;
    this.#transport = transport;
    this.#emit('transport', transport);
  }

  async #offer(offer: SenderOffer): Promise<void> {
    const { onConnection } = this.#handlers;
    try {
      if (onConnection === undefined) {
        await offer.reject(501, 'The listener takes requests alone, no connections');
      } else await onConnection(offer);
    } catch (error) {
      this.#report(error);
      if (offer.isTaken) return;
      await offer.reject(502, 'The listener failed to accept').catch(why => this.#report(why));
    }
  }

  async #answer(request: RelayedRequest): Promise<Answer> {
    const { onRequest } = this.#handlers;
    if (onRequest !== undefined) return onRequest(request);
    return {
      status: 501,
      reason: 'The listener takes connections alone, no requests',
      headers: { 'Content-Type': 'text/plain' },
      body: 'The listener takes connections alone, no requests\n',
    };
  }

  #keep(exchange: Promise<void>): void {
    const kept = exchange
      .catch((error: unknown) => this.#report(error))
      .finally(() => this.#exchanges.delete(kept));
    this.#exchanges.add(kept);
  }

  #report(error: unknown): void {
    if (this.#events.listenerCount('error') > 0) this.#emit('error', error);
  }

  #emit<Name extends keyof ListenerEvents>(name: Name, ...details: ListenerEvents[Name]): void {
    try {
      this.#events.emit(name, ...details);
    } catch (error) {
      // An observer that throws is a bug of its program, as with any emitter; it must not end the listener.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

const CLOSE_TIMEOUT_MS = 30_000;

/** `allSettled` never rejects. */
function unreachableRejection(): void {}
