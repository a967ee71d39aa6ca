import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import { refusalOf, shownPath } from './admission.ts';
import type { ControlChannel, DisconnectReason } from './control-channel.ts';
import type { HybridConnection } from './hybrid-connection.ts';
import type { Channel, Meter, PairEnd, Randomness, Refused, RelayRequest } from './ports.ts';

/** Who asks, for logs and the `role` label of refusals. */
export type Role = 'listener' | 'sender' | 'http' | 'rendezvous' | 'poll';

export type ListenerObserver = (hybridConnection: HybridConnection, what: 'came' | 'gone') => void;

/** What became of a sender that was held because its listener was not there. */
export type HeldOutcome = 'offered' | 'refused' | 'gone';

/**
 * Every event of a connection's life in one place: what is logged (names after Azure's diagnostic
 * log, azure-relay-protocol.md section 6.4) and what is counted.
 */
export class RelayEvents {
  readonly #clock: Clock;
  readonly #random: Randomness;
  readonly #log: Logger;
  readonly #meter: Meter;
  readonly #onListener: ListenerObserver;

  constructor(deps: {
    readonly clock: Clock;
    readonly random: Randomness;
    readonly log: Logger;
    readonly meter: Meter;
    /** Told when a listener of this node comes or is gone. */
    readonly onListener?: ListenerObserver;
  }) {
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#log = deps.log;
    this.#meter = deps.meter;
    this.#onListener = deps.onListener ?? (() => undefined);
  }

  /** The relay says no: gives the text to send. `hybridConnection` only when it is known to exist. */
  refused(
    reason: RefusalReason,
    request: RelayRequest,
    role: Role,
    detail?: string,
    hybridConnection?: HybridConnection,
  ): Refused {
    const about = { request, random: this.#random, wallMs: this.#clock.wallMs() };
    const refused = refusalOf(reason, about, detail);
    this.#meter.count('halfway_refusals_total', { reason, role });
    const name = hybridConnection?.name ?? UNKNOWN;
    if (role === 'listener') {
      this.#meter.count('halfway_listener_connections_total', resultOf(name, refused.status));
    } else if (role === 'sender' || role === 'http') {
      this.#meter.count('halfway_sender_connections_total', resultOf(name, refused.status));
    }
    this.#log.debug(
      {
        event: 'Refused',
        reason,
        role,
        code: refused.status,
        trackingId: refused.trackingId,
        path: shownPath(request),
        remoteIp: request.remote.address,
      },
      'refused',
    );
    return detail === undefined ? refused : { ...refused, detail };
  }

  listenerRegistered(listener: ControlChannel, request: RelayRequest): void {
    this.#onListener(listener.hybridConnection, 'came');
    const { name } = listener.hybridConnection;
    this.#meter.count('halfway_listener_connections_total', resultOf(name, 101));
    this.#log.info(
      {
        event: 'NewListenerRegistered',
        hybridConnection: name,
        trackingId: listener.listenerId,
        transport: listener.transport,
        remoteIp: request.remote.address,
      },
      'listener registered',
    );
  }

  listenerEnded(listener: ControlChannel, reason: DisconnectReason): void {
    this.#onListener(listener.hybridConnection, 'gone');
    this.#meter.count('halfway_listener_disconnects_total', { reason });
    this.#log.info(
      {
        event:
          reason === 'token-expired' ? 'ListenerClosingFromExpiredToken' : 'ListenerUnregistered',
        hybridConnection: listener.hybridConnection.name,
        trackingId: listener.listenerId,
        reason,
        durationMs: Math.round(this.#clock.nowMs() - listener.connectedAtMs),
      },
      'listener gone',
    );
  }

  senderRejected(hybridConnection: HybridConnection, trackingId: string, status: number): void {
    this.#meter.count('halfway_rejections_total', {});
    this.#meter.count('halfway_sender_connections_total', resultOf(hybridConnection.name, status));
    this.#log.debug(
      {
        event: 'ListenerRejectedConnection',
        hybridConnection: hybridConnection.name,
        trackingId,
        code: status,
      },
      'listener rejected the sender',
    );
  }

  /** A sender that waited for a listener to come waits no longer. */
  senderReleased(outcome: HeldOutcome): void {
    this.#meter.count('halfway_held_senders_total', { outcome });
  }

  pairJoined(
    hybridConnection: HybridConnection,
    trackingId: string,
    waitedMs: number,
    { sender, listener }: { readonly sender: Channel; readonly listener: Channel },
  ): void {
    this.#meter.count('halfway_sender_connections_total', resultOf(hybridConnection.name, 101));
    this.#meter.observe('halfway_rendezvous_duration_seconds', waitedMs / 1000, {});
    this.#log.debug(
      {
        event: 'SenderListenerConnectionEstablished',
        hybridConnection: hybridConnection.name,
        trackingId,
        transport: sender.transport ?? 'websocket',
        // Undefined for a stream from another node, too.
        listenerTransport: listener.transport,
        durationMs: Math.round(waitedMs),
      },
      'pair joined',
    );
  }

  pairEnded(
    hybridConnection: HybridConnection,
    trackingId: string,
    joinedMs: number,
    end: PairEnd,
  ): void {
    const { cause, closeCode } = end[end.first];
    this.#meter.count('halfway_sender_disconnects_total', { reason: cause });
    this.#log.debug(
      {
        event: 'SenderConnectionClosed',
        hybridConnection: hybridConnection.name,
        trackingId,
        first: end.first,
        reason: cause,
        code: closeCode,
        durationMs: Math.round(joinedMs),
        bytesToListener: end.bytesToListener,
        bytesToSender: end.bytesToSender,
      },
      'pair ended',
    );
  }

  /** `status` as the sender got it from its listener. */
  requestAnswered(hybridConnection: HybridConnection, status: number, tookMs: number): void {
    this.#meter.count('halfway_sender_connections_total', resultOf(hybridConnection.name, 200));
    this.#meter.observe('halfway_http_request_duration_seconds', tookMs / 1000, {
      code_class: CODE_CLASSES[Math.floor(status / 100)] ?? 'other',
    });
  }

  messageIgnored(
    why: 'unreadable' | 'unknown-request' | 'stray-body',
    listener: ControlChannel,
    detail: string,
  ): void {
    this.#meter.count('halfway_ignored_messages_total', { why });
    this.#log.debug(
      {
        event: 'ListenerMessageIgnored',
        hybridConnection: listener.hybridConnection.name,
        trackingId: listener.listenerId,
        reason: why,
        detail,
      },
      'listener message ignored',
    );
  }
}

/** Label of what was refused before a hybrid connection was known: strangers do not choose labels. */
const UNKNOWN = '';
const CODE_CLASSES = ['other', '1xx', '2xx', '3xx', '4xx', '5xx'];

function resultOf(name: string, status: number): { hybrid_connection: string; result: string } {
  const result = status >= 500 ? 'server_error' : status >= 400 ? 'client_error' : 'success';
  return { hybrid_connection: name, result };
}
