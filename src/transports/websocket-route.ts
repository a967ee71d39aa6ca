import type {
  HttpRequest,
  HttpResponse,
  us_socket_context_t,
  WebSocketBehavior,
} from 'uWebSockets.js';
import type { RefusalReason } from '../protocol/refusals.ts';
import { reasonPhrase } from '../protocol/relayed-headers.ts';
import type { Channel, HeldSender, Refused, RelayRequest } from '../relay/ports.ts';
import type { Role } from '../relay/events.ts';
import type { DialAction, DialOutcome } from '../relay/given-addresses.ts';
import type { Relay } from '../relay/relay.ts';
import type { Rendezvous } from '../relay/rendezvous.ts';
import { ControlWebSocket } from './control-socket.ts';
import type { CorkLender } from './cork-lender.ts';
import { readIncoming, type IncomingOptions } from './incoming.ts';
import type { Outbox } from './outbox.ts';
import { writeRefusal } from './refusal-response.ts';
import { header } from './request-snapshot.ts';
import type { SocketData, UpgradedSocket } from './upgraded-socket.ts';

export interface WebSocketRouteOptions {
  readonly relay: Relay;
  readonly outbox: Outbox;
  readonly incoming: IncomingOptions;
  readonly controlQueueBytesMax: number;
  readonly controlMessageBytesMax: number;
  /** Largest whole message that uWebSockets.js gathers: on control channels, and on all of them in the fallback. */
  readonly wholeMessageBytesMax: number;
  readonly keepAliveMs: number;
  /** Asks the node that an address is from; undefined: it is ours, or nobody's. Rejects only on a bug. */
  readonly dialElsewhere: (
    request: RelayRequest,
    action: DialAction,
  ) => Promise<DialOutcome> | undefined;
  readonly reportBug: (bug: unknown) => void;
  /** Lets the data plane see the route before its first socket. */
  readonly prepare: (context: us_socket_context_t) => void;
  /** Makes what sits behind a relayed WebSocket: native leg or, degraded, whole messages. */
  readonly channelSocket: (onChannel: (channel: Channel) => void) => UpgradedSocket;
  /** Calls `write` at once; what that writes to the client in pieces leaves together, if it can be had. */
  readonly gathering: (response: HttpResponse, write: () => void) => void;
}

/** Sends over this are dropped by uWebSockets.js; our own, smaller limits come first. */
const BACKPRESSURE_BYTES_MAX = 64 * 1024 * 1024;

/** All WebSocket handshakes: `/$hc/…` by its action, anything else refused. */
export function webSocketRoute(
  options: WebSocketRouteOptions,
  lender: CorkLender,
): WebSocketBehavior<SocketData> {
  return {
    maxPayloadLength: options.wholeMessageBytesMax,
    maxBackpressure: BACKPRESSURE_BYTES_MAX,
    idleTimeout: idleTimeoutSeconds(options.keepAliveMs),
    sendPingsAutomatically: true,
    upgrade: (response, request, context) => {
      options.prepare(context);
      new Handshake(options, lender, { response, request, context }).answer();
    },
    open: ws => ws.getUserData().socket.opened(ws),
    message: (ws, message, isBinary) => ws.getUserData().socket.message(message, isBinary),
    drain: ws => ws.getUserData().socket.drained(),
    close: (ws, code, reason) =>
      ws.getUserData().socket.closed(code, Buffer.from(reason).toString()),
  };
}

/**
 * uWebSockets.js pings when all but a margin of its idle timeout has passed, and cuts the socket
 * after the margin; the margin follows from the timeout (8 or 16 s in our range).
 */
function idleTimeoutSeconds(keepAliveMs: number): number {
  const silenceSeconds = Math.round(keepAliveMs / 1000);
  return silenceSeconds + (silenceSeconds >= 16 ? 16 : 8);
}

/** What uWebSockets.js hands to `upgrade`. */
interface UpgradeArguments {
  readonly response: HttpResponse;
  readonly request: HttpRequest;
  readonly context: us_socket_context_t;
}

/** One handshake: read at once, then answered now (listen, accept, request) or later (connect). */
class Handshake {
  readonly #options: WebSocketRouteOptions;
  readonly #lender: CorkLender;
  readonly #response: HttpResponse;
  readonly #context: us_socket_context_t;
  readonly #request: RelayRequest;
  readonly #fault: RefusalReason | undefined;
  readonly #key: string;
  #isOver = false;

  constructor(
    options: WebSocketRouteOptions,
    lender: CorkLender,
    { response, request, context }: UpgradeArguments,
  ) {
    const { request: relayRequest, fault } = readIncoming(response, request, options.incoming);
    this.#options = options;
    this.#lender = lender;
    this.#response = response;
    this.#context = context;
    this.#request = relayRequest;
    this.#key = header(relayRequest.headers, 'sec-websocket-key') ?? '';
    this.#fault = fault ?? handshakeFault(relayRequest);
  }

  answer(): void {
    const { relay } = this.#options;
    const request = this.#request;
    // Without an action it is a connect: .NET's own tests do that.
    const action = request.query.action?.toLowerCase() ?? 'connect';
    if (this.#fault !== undefined) {
      this.#refuse(relay.refuse(this.#fault, request, roleOf(action)));
      return;
    }
    switch (action) {
      case 'listen':
        this.#listen();
        return;
      case 'connect':
        this.#connect();
        return;
      case 'accept':
      case 'request':
        this.#dialBack(action);
        return;
      default:
        this.#refuse(relay.refuse('action-unknown', request, 'sender', `'${action}'`));
    }
  }

  #listen(): void {
    this.#response.onAborted(() => {
      this.#isOver = true;
    });
    const limits = {
      queueBytesMax: this.#options.controlQueueBytesMax,
      messageBytesMax: this.#options.controlMessageBytesMax,
    };
    let isHandling = true;
    this.#options.relay.listen(this.#request, outcome => {
      if ('reason' in outcome) {
        if (!this.#isOver) this.#refuse(outcome);
      } else if (this.#isOver) outcome.abandon();
      else {
        const socket = new ControlWebSocket(this.#options.outbox, limits, opened =>
          outcome.open(opened),
        );
        // In a cluster a place has been claimed meanwhile, and the handler is long over.
        if (isHandling) this.#upgrade(socket, undefined);
        else this.#upgradeLate(socket, undefined);
      }
    });
    isHandling = false;
  }

  #connect(): void {
    let rendezvous: Rendezvous | undefined;
    this.#response.onAborted(() => {
      this.#isOver = true;
      rendezvous?.senderGone();
    });
    const sender: HeldSender = {
      complete: (protocol, opened) =>
        // Not now: uWebSockets.js is still reading the listener's handshake, and would mix up the two.
        this.#later(() => this.#upgradeLate(this.#options.channelSocket(opened), protocol)),
      refuse: refused => this.#later(() => this.#refuse(refused)),
      reject: (status, description) => this.#later(() => this.#reject(status, description)),
    };
    rendezvous = this.#options.relay.connect(this.#request, sender);
  }

  /** The address may be one that another node of the cluster gave out. */
  #dialBack(action: DialAction): void {
    const { dialElsewhere, relay, reportBug } = this.#options;
    const elsewhere = dialElsewhere(this.#request, action);
    if (elsewhere === undefined) {
      this.#dial(
        action === 'accept' ? relay.accept(this.#request) : relay.openRequest(this.#request),
      );
      return;
    }
    this.#response.onAborted(() => {
      this.#isOver = true;
    });
    elsewhere.then(outcome => {
      if (!this.#isOver) this.#dial(outcome, (...made) => this.#upgradeLate(...made));
      else if ('dial' in outcome) outcome.dial.abandon();
    }, reportBug);
  }

  #dial(
    outcome: DialOutcome,
    upgrade = (socket: UpgradedSocket, protocol: string | undefined): void =>
      this.#upgrade(socket, protocol),
  ): void {
    if ('refused' in outcome) {
      this.#refuse(outcome.refused);
      return;
    }
    if ('rejected' in outcome) {
      this.#isOver = true;
      this.#response.cork(() => this.#response.writeStatus('410 Gone').end(undefined, true));
      return;
    }
    const { dial } = outcome;
    upgrade(
      this.#options.channelSocket(channel => dial.opened(channel)),
      dial.protocol,
    );
  }

  #upgrade(socket: UpgradedSocket, protocol: string | undefined): void {
    this.#isOver = true;
    // No extensions, ever: frames cross as they are, and two hops could not agree on compression.
    const data: SocketData = { socket };
    this.#response.upgrade(data, this.#key, protocol ?? '', '', this.#context);
  }

  /** An upgrade outside of the handler of its own handshake, which uWebSockets.js writes in two dozen pieces. */
  #upgradeLate(socket: UpgradedSocket, protocol: string | undefined): void {
    const upgrade = (): void => this.#upgrade(socket, protocol);
    this.#options.gathering(this.#response, () => this.#lender.cork(this.#response, upgrade));
  }

  #refuse(refused: Refused): void {
    this.#isOver = true;
    this.#response.cork(() => writeRefusal(this.#response, refused, { closeConnection: true }));
  }

  /** A listener's own words: its status as it is, its text as far as a status line may hold it. */
  #reject(status: number, description: string): void {
    this.#isOver = true;
    const hasNoBody = status === 204 || status === 304;
    this.#response.cork(() => {
      this.#response.writeStatus(`${status} ${reasonPhrase(status, description)}`);
      if (hasNoBody) this.#response.endWithoutBody(undefined, true);
      else this.#response.end('', true);
    });
  }

  #later(task: () => void): void {
    this.#options.outbox.put(() => {
      if (!this.#isOver) task();
    });
  }
}

/** uWebSockets.js takes every GET with a `Sec-WebSocket-Key` for a handshake, so the rest is checked here. */
function handshakeFault({ path, headers }: RelayRequest): RefusalReason | undefined {
  if (path.kind !== 'websocket') return 'upgrade-outside-hc';
  const upgrade = header(headers, 'upgrade')?.toLowerCase().split(',') ?? [];
  // Proxies that know no WebSockets strip the header, and would not understand a 101 either.
  if (!upgrade.some(name => name.trim() === 'websocket')) return 'not-websocket';
  const version = header(headers, 'sec-websocket-version') ?? '13';
  return version === '13' ? undefined : 'handshake-malformed';
}

function roleOf(action: string): Role {
  if (action === 'listen') return 'listener';
  return action === 'accept' || action === 'request' ? 'rendezvous' : 'sender';
}
