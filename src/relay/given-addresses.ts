import { isRendezvousId, type RendezvousId } from '../protocol/ids.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import { rejectionOf } from '../protocol/relay-url.ts';
import type { RelayEvents } from './events.ts';
import type { Channel, Refused, RelayRequest } from './ports.ts';
import type { RelayedRequest } from './relayed-request.ts';
import type { Rendezvous } from './rendezvous.ts';

/** A dialled rendezvous that may be opened: echo `protocol`, then hand over the channel. */
export interface AdmittedDial {
  readonly protocol: string | undefined;
  opened(channel: Channel): void;
  /** The listener went away before its WebSocket was open. */
  abandon(): void;
}

/** What a listener dials an address for. */
export type DialAction = 'accept' | 'request';

export type DialOutcome =
  | { readonly dial: AdmittedDial }
  /** The listener turned its sender away: 410 is the answer it expects. */
  | { readonly rejected: true }
  | { readonly refused: Refused };

/** What an address leads to. */
type Given =
  | { readonly kind: 'accept'; readonly rendezvous: Rendezvous; readonly request: RelayRequest }
  | { readonly kind: 'request'; readonly relayed: RelayedRequest };

/**
 * The addresses that listeners were given and may dial. Knowing one is the right to use it, once.
 * Bounded by `sendersMax`: each sender has at most one.
 */
export class GivenAddresses {
  readonly #events: RelayEvents;
  readonly #given = new Map<RendezvousId, Given>();

  constructor(events: RelayEvents) {
    this.#events = events;
  }

  /** For the sender of `request`, which waits in `rendezvous`. */
  giveAccept(id: RendezvousId, rendezvous: Rendezvous, request: RelayRequest): void {
    this.#given.set(id, { kind: 'accept', rendezvous, request });
  }

  giveRequest(relayed: RelayedRequest): void {
    this.#given.set(relayed.id, { kind: 'request', relayed });
  }

  /** From here on the address is worthless. */
  withdraw(id: RendezvousId): void {
    this.#given.delete(id);
  }

  /** A listener dials the address of an `accept` message; its headers name the subprotocol it takes. */
  accept(request: RelayRequest): DialOutcome {
    const offered = this.#find(request);
    if (offered?.kind !== 'accept') return this.#refuse('address-unknown', request);
    const { rendezvous } = offered;
    const rejection = rejectionOf(request.query, offered.request.query.userQuery);
    if (rejection === 'invalid') return this.#refuse('status-code-invalid', request);
    if (rejection !== undefined) {
      rendezvous.rejected(rejection.status, rejection.description);
      return { rejected: true };
    }
    const protocol = chosenProtocol(protocolsOf(request), protocolsOf(offered.request));
    if (protocol === NOT_OFFERED) {
      const detail = 'the subprotocol is not one that the sender offered';
      return this.#refuse('handshake-malformed', request, detail);
    }
    if (!rendezvous.dialled()) return this.#refuse('address-unknown', request);
    return {
      dial: {
        protocol,
        opened: channel => rendezvous.listenerOpened(channel, protocol),
        abandon: () => rendezvous.listenerGone(),
      },
    };
  }

  /** A listener dials the address of a `request` message. */
  openRequest(request: RelayRequest): DialOutcome {
    const offered = this.#find(request);
    if (offered?.kind !== 'request' || !offered.relayed.canBeDialled) {
      return this.#refuse('address-unknown', request);
    }
    // Single use: from here on the address is worthless.
    this.#given.delete(offered.relayed.id);
    return {
      dial: {
        protocol: undefined,
        opened: channel => offered.relayed.dialled(channel),
        abandon: () => offered.relayed.refuse('listener-lost'),
      },
    };
  }

  #find(request: RelayRequest): Given | undefined {
    const { id } = request.query;
    return id !== undefined && isRendezvousId(id) ? this.#given.get(id) : undefined;
  }

  #refuse(reason: RefusalReason, request: RelayRequest, detail?: string): DialOutcome {
    return { refused: this.#events.refused(reason, request, 'rendezvous', detail) };
  }
}

const NOT_OFFERED = Symbol('not offered');

/**
 * The one subprotocol that both 101 answers name: the first of the listener's that the sender
 * offered. Some listeners echo the sender's whole list.
 */
function chosenProtocol(
  listeners: readonly string[],
  senders: readonly string[],
): string | undefined | typeof NOT_OFFERED {
  if (listeners.length === 0) return undefined;
  const offered = new Set(senders);
  return listeners.find(name => offered.has(name)) ?? NOT_OFFERED;
}

/** Subprotocols in order; the header may be repeated (RFC 6455, section 11.3.4). */
function protocolsOf(request: RelayRequest): string[] {
  return request.headers
    .filter(([name]) => name === 'sec-websocket-protocol')
    .flatMap(([, value]) => value.split(','))
    .map(name => name.trim())
    .filter(name => name !== '');
}
