import type { Clock } from '../base/clock.ts';
import type { HeaderRecord, RemoteEndpoint } from '../protocol/control-messages.ts';
import { parseRelayQuery } from '../protocol/relay-url.ts';
import type { Accept } from './control-reader.ts';
import type { Dial, FrameChannel } from './frame-channel.ts';
import { RelayConnection, type ConnectionOptions } from './relay-connection.ts';
import { RelayError } from './relay-error.ts';

export interface AcceptOptions extends ConnectionOptions {
  /** One of the subprotocols that the sender offers; the first one by default, '' for none. */
  readonly protocol?: string;
  readonly signal?: AbortSignal;
}

/** Addresses live for half a minute. */
const DIAL_TIMEOUT_MS = 20_000;

/** A sender that waits for a connection, for half a minute or so. It is accepted or rejected, once. */
export class SenderOffer {
  /** The relay's name for it: the sender's own, where it chose one. */
  readonly id: string;
  /** All headers of the sender's handshake, names as it wrote them. */
  readonly headers: HeaderRecord;
  /** Where the sender is, as the relay sees it. */
  readonly remote: RemoteEndpoint | undefined;
  /** The subprotocols it offers, in its order. */
  readonly protocols: readonly string[];
  /** Path, with the hybrid connection's name, still encoded; and the sender's query, when it has one. */
  readonly target: string;
  readonly #address: string;
  readonly #deps: { readonly clock: Clock; readonly dial: Dial };
  #isTaken = false;

  constructor(accept: Accept, deps: { readonly clock: Clock; readonly dial: Dial }) {
    this.id = accept.id;
    this.headers = accept.connectHeaders;
    this.remote = accept.remoteEndpoint;
    this.protocols = protocolsOf(accept.connectHeaders);
    this.target = targetOf(accept.address);
    this.#address = accept.address;
    this.#deps = deps;
  }

  /** Whether it was accepted or rejected. */
  get isTaken(): boolean {
    return this.#isTaken;
  }

  /** Opens the connection. Rejects with a `RelayError`: `Timeout` when the sender has gone meanwhile. */
  async accept(options: AcceptOptions = {}): Promise<RelayConnection> {
    const channel = await this.acceptChannel(options);
    return new RelayConnection(channel, { ...options, clock: this.#deps.clock });
  }

  /** Opens the connection as bare frames, for programs that only pass them on. */
  async acceptChannel(
    options: Pick<AcceptOptions, 'protocol' | 'signal'> = {},
  ): Promise<FrameChannel> {
    const { protocol = this.protocols[0] ?? '', signal } = options;
    if (protocol !== '' && !this.protocols.includes(protocol)) {
      const message = `Cannot accept with subprotocol "${protocol}": the sender does not offer it`;
      throw new RelayError('ProtocolError', message);
    }
    this.#take();
    const { clock, dial } = this.#deps;
    const protocols = protocol === '' ? [] : [protocol];
    return dial(this.#address, { clock, protocols, signal, timeoutMs: DIAL_TIMEOUT_MS });
  }

  /** Turns the sender away: it gets `status` (100 to 999) and `reason` as the answer to its handshake. */
  async reject(status = 400, reason = 'Rejected by the listener'): Promise<void> {
    if (!Number.isInteger(status) || status < 100 || status > 999) {
      throw new RangeError(`A status is a number from 100 to 999, got ${status}`);
    }
    this.#take();
    const { clock, dial } = this.#deps;
    const query = `sb-hc-statusCode=${status}&sb-hc-statusDescription=${encodeURIComponent(reason)}`;
    try {
      const address = `${this.#address}&${query}`;
      const channel = await dial(address, { clock, timeoutMs: DIAL_TIMEOUT_MS });
      channel.destroy();
    } catch (error) {
      // 410 is how the relay says that it has passed the rejection on.
      if (!(error instanceof RelayError && error.status === 410)) throw error;
    }
  }

  #take(): void {
    if (this.#isTaken)
      throw new RelayError('Closed', 'The sender was accepted or rejected already');
    this.#isTaken = true;
  }
}

function protocolsOf(headers: HeaderRecord): readonly string[] {
  const entry = Object.entries(headers).find(
    ([name]) => name.toLowerCase() === 'sec-websocket-protocol',
  );
  return (entry?.[1] ?? '')
    .split(',')
    .map(protocol => protocol.trim())
    .filter(protocol => protocol !== '');
}

function targetOf(address: string): string {
  if (!URL.canParse(address)) return '';
  const { pathname, search } = new URL(address);
  const { userQuery } = parseRelayQuery(search.replace(/^\?/, ''));
  const path = pathname.replace(/^\/\$hc/i, '');
  return userQuery === '' ? path : `${path}?${userQuery}`;
}
