import type { Clock } from '../base/clock.ts';
import type { TokenVerifier } from '../auth/verify-token.ts';
import { formatRendezvousId, leadingUuid } from '../protocol/ids.ts';
import type { RefusalReason } from '../protocol/refusals.ts';
import { listenerFilterOf } from '../protocol/relayed-headers.ts';
import { AbsentListeners } from './absent-listeners.ts';
import { Admissions, type Admission, httpToken, webSocketToken } from './admission.ts';
import { ControlChannel } from './control-channel.ts';
import type { RelayEvents, Role } from './events.ts';
import { GivenAddresses, type DialOutcome } from './given-addresses.ts';
import { relayHttp, type AdmittedHttp } from './http-relaying.ts';
import type { HybridConnection, ListenerChoice } from './hybrid-connection.ts';
import { DELETED, type RelayLimits } from './limits.ts';
import { acceptMessage } from './listener-messages.ts';
import type { Namespace, NamespaceTable } from './namespaces.ts';
import type {
  Channel,
  ClaimedPlace,
  ClaimRefusal,
  Cluster,
  ControlSocket,
  DataPlane,
  EntityName,
  HeldSender,
  HttpSender,
  ListenerResponse,
  Randomness,
  ReachableListener,
  Refused,
  RelayRequest,
} from './ports.ts';
import { RelayedRequest } from './relayed-request.ts';
import { Rendezvous } from './rendezvous.ts';
import { spliceFragments } from './splice.ts';

export interface RelayDeps {
  readonly namespaces: NamespaceTable;
  readonly verifier: TokenVerifier;
  readonly clock: Clock;
  readonly random: Randomness;
  readonly events: RelayEvents;
  readonly dataPlane: DataPlane;
  /** Undefined: this node is all there is. */
  readonly cluster?: Cluster;
  readonly limits: RelayLimits;
  readonly autoCreate: boolean;
  /**
   * What addresses begin with where listeners reach this very node, which saves the hop; else they begin with what
   * the listener itself used.
   */
  readonly nodeOrigin?: string;
}

/** A listener that may come in: call `open` once its WebSocket is open. */
export interface AdmittedListener {
  open(socket: ControlSocket): ControlChannel;
  /** It went away before its WebSocket was open. */
  abandon(): void;
}

/**
 * The core's front door: listeners register, senders connect or request, listeners dial back.
 * Knows no transport: sockets come in as ports, and what happens goes out through them.
 */
export class Relay {
  readonly #deps: RelayDeps;
  readonly #admissions: Admissions;
  readonly #addresses: GivenAddresses;
  readonly #absent: AbsentListeners;
  readonly #listeners = new Set<ControlChannel>();
  #senders = 0;
  #waiting = 0;
  #isDraining = false;
  readonly #nodeTag: string;

  constructor(deps: RelayDeps) {
    this.#deps = deps;
    this.#nodeTag = deps.cluster?.nodeTag ?? '';
    this.#addresses = new GivenAddresses(deps.events);
    this.#absent = new AbsentListeners({
      clock: deps.clock,
      events: deps.events,
      waitMs: deps.limits.listenerWaitMs,
      isAlone: deps.cluster === undefined,
    });
    this.#admissions = new Admissions(deps.namespaces, deps.verifier, deps.clock, {
      autoCreate: deps.autoCreate,
      hybridConnectionsMax: deps.limits.hybridConnectionsMax,
    });
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** Waiting, joined, and HTTP requests in flight. */
  get senderCount(): number {
    return this.#senders;
  }

  get waitingSenders(): number {
    return this.#waiting;
  }

  /** Senders of either kind that wait for a listener to come. */
  get heldSenders(): number {
    return this.#absent.count;
  }

  /** `decided` is called once: now, or, in a cluster, when a place has been claimed. */
  listen(request: RelayRequest, decided: (outcome: AdmittedListener | Refused) => void): void {
    const { cluster, events, limits, random } = this.#deps;
    if (this.#isDraining) {
      decided(this.refuse('draining', request, 'listener'));
      return;
    }
    const admission = this.#admissions.admit(request, 'Listen', webSocketToken(request));
    if (!admission.admitted) {
      decided(this.refuse(admission.reason, request, 'listener', admission.detail));
      return;
    }
    const { hybridConnection } = admission;
    const listenerId = (leadingUuid(request.query.id) ?? random.uuid()).toLowerCase();
    const proceed = (place: ClaimedPlace | ClaimRefusal): void => {
      const detail = place === 'listeners-max' ? `at most ${limits.listenersMax}` : undefined;
      if (typeof place !== 'string' && hybridConnection.isDeleted) {
        place.release();
        decided(this.refuse('endpoint-unknown', request, 'listener'));
        return;
      }
      decided(
        typeof place === 'string'
          ? events.refused(place, request, 'listener', detail, hybridConnection)
          : this.#admittedListener(request, admission, listenerId, place),
      );
    };
    if (cluster === undefined) {
      const isFull = hybridConnection.listeners.length >= limits.listenersMax;
      proceed(isFull ? 'listeners-max' : NO_PLACE_TO_RELEASE);
      return;
    }
    const { namespace, name } = hybridConnection;
    const { origin } = request;
    cluster.claim({ namespace, hybridConnection: name, listenerId, origin }, proceed);
  }

  #admittedListener(
    request: RelayRequest,
    { hybridConnection, namespace, expiresAtMs }: Extract<Admission, { admitted: true }>,
    listenerId: string,
    place: ClaimedPlace,
  ): AdmittedListener {
    const { clock, cluster, events, limits } = this.#deps;
    return {
      open: socket => {
        const listener = new ControlChannel(
          { hybridConnection, listenerId, origin: request.origin },
          socket,
          expiresAtMs,
          {
            clock,
            events,
            tokenGraceMs: limits.tokenGraceMs,
            renew: token => this.#renew(request, namespace, hybridConnection, token),
            answerElsewhere: (response, body) => {
              const { namespace: namespaceName, name } = hybridConnection;
              const from = { namespace: namespaceName, hybridConnection: name };
              return cluster?.answerElsewhere(from, response, body) ?? false;
            },
            onEnd: (ended, reason) => {
              hybridConnection.remove(ended);
              this.#listeners.delete(ended);
              place.release();
              if (reason === 'draining' || reason === 'rebalanced') {
                this.#absent.expect(hybridConnection);
              }
              events.listenerEnded(ended, reason);
            },
          },
        );
        hybridConnection.add(listener);
        this.#listeners.add(listener);
        place.opened(listener);
        events.listenerRegistered(listener, request);
        if (hybridConnection.isDeleted) listener.end('deleted', 1001, DELETED);
        return listener;
      },
      abandon: () => place.release(),
    };
  }

  /** A listener on another node answers a request of this one. False: it is over, or never was. */
  answerFromElsewhere(from: EntityName, response: ListenerResponse, body: Uint8Array): boolean {
    const request = this.find(from)?.requests.get(response.requestId);
    request?.answerInline(response, body);
    return request !== undefined;
  }

  /** Puts a sender before a listener. The transport reports `senderGone` when its socket ends early. */
  connect(request: RelayRequest, sender: HeldSender): Rendezvous | undefined {
    const { clock, events, limits, random } = this.#deps;
    const admitted = this.#admitSender(request, 'sender', webSocketToken(request));
    if ('reason' in admitted) {
      sender.refuse(admitted);
      return undefined;
    }
    const { hybridConnection } = admitted;
    const startedAtMs = clock.nowMs();
    const uuid = leadingUuid(request.query.id) ?? random.uuid();
    const choice: ListenerChoice = { filter: listenerFilterOf(request.headers) };
    this.#senders += 1;
    this.#waiting += 1;
    const rendezvous: Rendezvous = new Rendezvous(clock, limits.acceptTimeoutMs, {
      offer: (fate, except) => {
        const id = formatRendezvousId(uuid, random.secretHex(), this.#nodeTag);
        const pending = { id, ...fate };
        const listener = hybridConnection.offer(random, { ...choice, except }, chosen =>
          chosen.offer(pending, acceptMessage(request, this.#addressOrigin(chosen), id)),
        );
        if (listener === undefined) return undefined;
        this.#addresses.giveAccept(id, rendezvous, request);
        return { pending, listener };
      },
      hold: (held, waitMsMin) =>
        this.#absent.hold({ hybridConnection, choice, ...held }, waitMsMin),
      withdraw: id => this.#addresses.withdraw(id),
      refuseSender: reason =>
        sender.refuse(events.refused(reason, request, 'sender', undefined, hybridConnection)),
      rejectSender: (status, description) => {
        // A status below 200 would not end the handshake: it announces that another answer follows.
        const final = status < 200 ? 502 : status;
        events.senderRejected(hybridConnection, uuid, final);
        sender.reject(final, description);
      },
      completeSender: (protocol, opened) => sender.complete(protocol, opened),
      join: (senderChannel, listenerChannel) => {
        const ends = { sender: senderChannel, listener: listenerChannel };
        events.pairJoined(hybridConnection, uuid, clock.nowMs() - startedAtMs, ends);
        this.#join(hybridConnection, uuid, senderChannel, listenerChannel);
      },
      ended: phase => {
        this.#waiting -= 1;
        hybridConnection.waiting.delete(rendezvous);
        if (phase === 'closed') this.#senders -= 1;
      },
    });
    hybridConnection.waiting.add(rendezvous);
    rendezvous.start(() => hybridConnection.whyNobody(choice));
    return rendezvous;
  }

  /** A listener dials the address of an `accept` message; its headers name the subprotocol it takes. */
  accept(request: RelayRequest): DialOutcome {
    return this.#addresses.accept(request);
  }

  /** A listener dials the address of a `request` message. */
  openRequest(request: RelayRequest): DialOutcome {
    return this.#addresses.openRequest(request);
  }

  /** An HTTP request: checked before its body is read, so that strangers send nothing. */
  http(request: RelayRequest, method: string): AdmittedHttp | Refused {
    const token = httpToken(request);
    const admitted = this.#admitSender(request, 'http', token.text);
    if ('reason' in admitted) return admitted;
    const { hybridConnection } = admitted;
    const stripAuthorization =
      token.isAuthorization && hybridConnection.requiresClientAuthorization;
    return {
      relay: (sender, body) =>
        relayHttp(body, {
          request,
          method,
          hybridConnection,
          random: this.#deps.random,
          stripAuthorization,
          originFor: listener => this.#addressOrigin(listener),
          begin: (choice, offer) =>
            this.#relayed({ request, method, sender, hybridConnection, choice, offer }),
        }),
    };
  }

  /** The hybrid connection of these names, as directories write them. */
  find(name: EntityName): HybridConnection | undefined {
    return this.#deps.namespaces.named(name.namespace)?.named(name.hybridConnection);
  }

  /** The hybrid connection of a management read; the token needs `Manage`. */
  describe(request: RelayRequest): HybridConnection | Refused {
    const admission = this.#admissions.admit(request, 'Manage', httpToken(request).text);
    if (admission.admitted) return admission.hybridConnection;
    return this.refuse(admission.reason, request, 'http', admission.detail);
  }

  refuse(reason: RefusalReason, request: RelayRequest, role: Role, detail?: string): Refused {
    return this.#deps.events.refused(reason, request, role, detail);
  }

  /** From here on nothing new comes in: listeners and senders get 503. */
  beginDrain(): void {
    this.#isDraining = true;
  }

  /** Asks listeners to reconnect elsewhere, one after another over `spreadMs`, each once its answers are out. */
  moveListeners(spreadMs: number): void {
    const listeners = [...this.#listeners];
    for (const [index, listener] of listeners.entries()) {
      this.#deps.clock.after((spreadMs * index) / listeners.length, () =>
        listener.endWhenSettled('draining', 1001, 'The relay is shutting down; connect again'),
      );
    }
  }

  /** Those on this node, in the order in which they came. */
  get listeners(): Iterable<ControlChannel> {
    return this.#listeners;
  }

  /**
   * Asks a listener to connect again, because another node has room for it: at once, or when its answers are out.
   * False: this is not the moment, because nobody else of its hybrid connection could take its senders meanwhile.
   */
  moveListener(listener: ControlChannel): boolean {
    if (listener.isLeaving) return true;
    const { hybridConnection } = listener;
    const isOnly = hybridConnection.reachable.every(one => one === listener);
    const isOneAway =
      this.#absent.isExpected(hybridConnection) ||
      hybridConnection.listeners.some(one => one.isLeaving);
    if (isOnly && (isOneAway || listener.outstanding > 0)) return false;
    listener.endWhenSettled('rebalanced', 1001, 'Another node has more room; connect again');
    return true;
  }

  /** Listeners of a hybrid connection have lost their node, or were asked to move: they will be back. */
  expectListener(name: EntityName): void {
    const found = this.find(name);
    if (found !== undefined) this.#absent.expect(found);
  }

  /** Ends all joined pairs that are left. */
  closePairs(code: number, reason: string): void {
    for (const namespace of this.#deps.namespaces.all) {
      for (const hybridConnection of namespace.hybridConnections) {
        for (const close of hybridConnection.pairs) close(code, reason);
      }
    }
  }

  #addressOrigin(listener: ReachableListener): string {
    return this.#deps.nodeOrigin ?? listener.origin;
  }

  #admitSender(
    request: RelayRequest,
    role: 'sender' | 'http',
    token: string | undefined,
  ): { readonly hybridConnection: HybridConnection } | Refused {
    if (this.#isDraining) return this.refuse('draining', request, role);
    const admission = this.#admissions.admit(request, 'Send', token);
    if (!admission.admitted) {
      return this.refuse(admission.reason, request, role, admission.detail);
    }
    const { hybridConnection } = admission;
    if (this.#senders >= this.#deps.limits.sendersMax) {
      return this.#deps.events.refused('senders-max', request, role, undefined, hybridConnection);
    }
    return { hybridConnection };
  }

  #relayed(about: {
    readonly request: RelayRequest;
    readonly method: string;
    readonly sender: HttpSender;
    readonly hybridConnection: HybridConnection;
    readonly choice: ListenerChoice;
    readonly offer: () => boolean;
  }): RelayedRequest {
    const { request, method, sender, hybridConnection, choice, offer } = about;
    const { clock, events, limits, random } = this.#deps;
    const id = formatRendezvousId(
      leadingUuid(request.query.id) ?? random.uuid(),
      random.secretHex(),
      this.#nodeTag,
    );
    const startedAtMs = clock.nowMs();
    const relayed = new RelayedRequest(clock, sender, {
      id,
      method,
      viaHost: request.host,
      limits,
      traffic: hybridConnection.traffic,
      offer,
      whyNobody: () => hybridConnection.whyNobody(choice),
      hold: (held, waitMsMin) =>
        this.#absent.hold({ hybridConnection, choice, ...held }, waitMsMin),
      refusal: (reason, detail) =>
        events.refused(reason, request, 'http', detail, hybridConnection),
      onDone: status => {
        this.#senders -= 1;
        hybridConnection.requests.delete(id);
        this.#addresses.withdraw(id);
        if (status !== undefined) {
          events.requestAnswered(hybridConnection, status, clock.nowMs() - startedAtMs);
        }
      },
    });
    this.#senders += 1;
    hybridConnection.requests.set(id, relayed);
    this.#addresses.giveRequest(relayed);
    return relayed;
  }

  #join(
    hybridConnection: HybridConnection,
    trackingId: string,
    sender: Channel,
    listener: Channel,
  ): void {
    const { clock, dataPlane, events } = this.#deps;
    const joinedAtMs = clock.nowMs();
    const { traffic } = hybridConnection;
    const close = (code: number, reason: string): void => {
      sender.close(code, reason);
      listener.close(code, reason);
    };
    hybridConnection.pairs.add(close);
    const onEnd: Parameters<DataPlane['join']>[3] = end => {
      hybridConnection.pairs.delete(close);
      this.#senders -= 1;
      events.pairEnded(hybridConnection, trackingId, clock.nowMs() - joinedAtMs, end);
    };
    if (!dataPlane.join(sender, listener, traffic, onEnd)) {
      spliceFragments(sender, listener, traffic, onEnd);
    }
    if (hybridConnection.isDeleted) close(1001, DELETED);
  }

  #renew(
    request: RelayRequest,
    namespace: Namespace,
    hybridConnection: HybridConnection,
    token: string,
  ): { readonly expiresAtMs: number } | { readonly refused: string } {
    const renewal = this.#admissions.renew(namespace, hybridConnection, token, request);
    if (!('reason' in renewal)) return renewal;
    return { refused: this.refuse(renewal.reason, request, 'listener', renewal.detail).text };
  }
}

/** Without a cluster the hybrid connection's own list is all that counts. */
const NO_PLACE_TO_RELEASE: ClaimedPlace = { opened: () => {}, release: () => {} };
