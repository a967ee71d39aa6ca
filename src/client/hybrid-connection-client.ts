import { randomUUID } from 'node:crypto';
import { encodeIllegalInPath, encodeIllegalInQuery } from '../protocol/uri-text.ts';
import type { FrameChannel } from './frame-channel.ts';
import { exchange, type HttpAnswer, type RequestBody } from './http-exchange.ts';
import { RelayConnection, type ConnectionOptions } from './relay-connection.ts';
import { unlessAborted } from './relay-error.ts';
import { relayTarget, type RelayOptions, type RelayTarget } from './relay-target.ts';

export type QueryOption = string | Readonly<Record<string, string>> | URLSearchParams;

export interface ConnectOptions extends ConnectionOptions {
  /** Below the hybrid connection: `rooms/7` or `/rooms/7`, with a query perhaps. */
  readonly path?: string;
  /** For the listener, besides that of `path`. */
  readonly query?: QueryOption;
  /** For the listener. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Subprotocols, the one that is liked best first. */
  readonly protocols?: readonly string[];
  /** How long a listener may take to accept, 70 s by default; the relay gives up sooner. */
  readonly timeoutMs?: number;
  /** Ends the attempt; not the connection, once there is one. */
  readonly signal?: AbortSignal;
}

export interface RequestOptions {
  /** `GET` by default, `POST` with a body. */
  readonly method?: string;
  /** As for `connect`. */
  readonly path?: string;
  readonly query?: QueryOption;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** In pieces it is sent as they come, and no faster than they are taken. */
  readonly body?: RequestBody;
  /** How long the answer may take to begin once the request is sent, 120 s by default; the relay gives up sooner. */
  readonly timeoutMs?: number;
  /** Ends the exchange, also while the answer's body is read. */
  readonly signal?: AbortSignal;
}

const SENDER_TOKEN_MS = 600_000;
const CONNECT_TIMEOUT_MS = 70_000;
const ANSWER_TIMEOUT_MS = 120_000;

/** Reaches the listeners of a hybrid connection. Holds nothing open by itself. */
export class HybridConnectionClient {
  readonly #target: RelayTarget;

  /** Throws a `TypeError` when the options do not say where to connect to. */
  constructor(options: RelayOptions) {
    this.#target = relayTarget(options);
  }

  /**
   * Connects to a listener. Rejects with a `RelayError`: `Rejected` when the listener turned us away,
   * `EndpointNotFound` when there is none, and so on.
   */
  async connect(options: ConnectOptions = {}): Promise<RelayConnection> {
    const channel = await this.connectChannel(options);
    return new RelayConnection(channel, { ...options, clock: this.#target.clock });
  }

  /** Connects as bare frames, for programs that only pass them on. */
  async connectChannel(options: ConnectOptions = {}): Promise<FrameChannel> {
    const { clock, dial, webSocketOrigin } = this.#target;
    const { signal, timeoutMs = CONNECT_TIMEOUT_MS, protocols = [], headers } = options;
    const token = await this.#tokenHeader(signal);
    const { path, query } = this.#place(options);
    const user = query === '' ? '' : `${query}&`;
    return dial(
      `${webSocketOrigin}/$hc/${path}?${user}sb-hc-action=connect&sb-hc-id=${randomUUID()}`,
      { clock, signal, timeoutMs, protocols, headers: { ...headers, ...token } },
    );
  }

  /**
   * Sends an HTTP request to a listener. Resolves with its answer whatever the status; rejects with a
   * `RelayError` when the relay, or something on the way, answers in its place.
   */
  async request(options: RequestOptions = {}): Promise<HttpAnswer> {
    const { body, signal, timeoutMs = ANSWER_TIMEOUT_MS } = options;
    const token = await this.#tokenHeader(signal);
    const { path, query } = this.#place(options);
    const url = new URL(`${this.#target.httpOrigin}/${path}${query === '' ? '' : `?${query}`}`);
    const method = options.method ?? (body === undefined ? 'GET' : 'POST');
    const headers = { ...options.headers, ...token };
    return exchange({ url, method, headers, body, timeoutMs, signal }, this.#target);
  }

  async #tokenHeader(signal: AbortSignal | undefined): Promise<Record<string, string>> {
    const { token } = this.#target;
    if (token === undefined) return {};
    const given = await unlessAborted('To get a token', signal, token(SENDER_TOKEN_MS));
    return { ServiceBusAuthorization: given.token };
  }

  /** Path and query as they stand in a URL, neither with what no URL may hold. */
  #place({ path = '', query }: Pick<ConnectOptions, 'path' | 'query'>) {
    const [below = '', queryOfPath = ''] = path.replace(/^\/+/, '').split(/\?(.*)/s);
    const queries = [queryOfPath, queryText(query)].filter(text => text !== '');
    const whole = below === '' ? this.#target.path : `${this.#target.path}/${below}`;
    return { path: encodeIllegalInPath(whole), query: encodeIllegalInQuery(queries.join('&')) };
  }
}

function queryText(query: QueryOption | undefined): string {
  if (query === undefined) return '';
  if (typeof query === 'string') return query.replace(/^\?/, '');
  return new URLSearchParams(query instanceof URLSearchParams ? query : { ...query }).toString();
}
