import type { HttpResponse, us_socket_context_t, WebSocketBehavior } from 'uWebSockets.js';
import type { RefusalReason } from '../protocol/refusals.ts';
import type { ControlChannel } from '../relay/control-channel.ts';
import type { ControlSocket, Refused, RelayRequest } from '../relay/ports.ts';
import { ControlWebSocket } from './control-socket.ts';
import type { CorkLender } from './cork-lender.ts';
import {
  Handshake,
  type HandshakeAnswer,
  type HandshakeOptions,
  type OnChannel,
} from './handshake.ts';
import { readIncoming, type IncomingOptions } from './incoming.ts';
import { writeGone, writeRefusal, writeRejection } from './refusal-response.ts';
import { header } from './request-snapshot.ts';
import type { SocketData, UpgradedSocket } from './upgraded-socket.ts';
import { BACKPRESSURE_BYTES_MAX, idleTimeoutSeconds, upgradeFault } from './websocket-handshake.ts';

export interface WebSocketRouteOptions extends HandshakeOptions {
  readonly incoming: IncomingOptions;
  readonly controlQueueBytesMax: number;
  readonly controlMessageBytesMax: number;
  /** Largest whole message that uWebSockets.js gathers: on control channels, and on all of them in the fallback. */
  readonly wholeMessageBytesMax: number;
  readonly keepAliveMs: number;
  /** Lets the data plane see the route before its first socket. */
  readonly prepare: (context: us_socket_context_t) => void;
  /** Makes what sits behind a relayed WebSocket: native leg or, degraded, whole messages. */
  readonly channelSocket: (onChannel: OnChannel) => UpgradedSocket;
  /** Calls `write` at once; what that writes to the client in pieces leaves together, if it can be had. */
  readonly gathering: (response: HttpResponse, write: () => void) => void;
}

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
    upgrade: (response, httpRequest, context) => {
      options.prepare(context);
      const { request, fault } = readIncoming(response, httpRequest, options.incoming);
      const key = header(request.headers, 'sec-websocket-key') ?? '';
      const answer = new UpgradeAnswer(options, lender, { response, context, key });
      const handshake = new Handshake(options, request, answer);
      response.onAborted(() => handshake.clientGone());
      handshake.begin(fault ?? handshakeFault(request));
      answer.handled();
    },
    open: ws => ws.getUserData().socket.opened(ws),
    message: (ws, message, isBinary) => ws.getUserData().socket.message(message, isBinary),
    drain: ws => ws.getUserData().socket.drained(),
    close: (ws, code, reason) =>
      ws.getUserData().socket.closed(code, Buffer.from(reason).toString()),
  };
}

/** 101, and the usual refusals. */
class UpgradeAnswer implements HandshakeAnswer {
  readonly #options: WebSocketRouteOptions;
  readonly #lender: CorkLender;
  readonly #response: HttpResponse;
  readonly #context: us_socket_context_t;
  readonly #key: string;
  #isHandling = true;

  constructor(
    options: WebSocketRouteOptions,
    lender: CorkLender,
    handshake: {
      readonly response: HttpResponse;
      readonly context: us_socket_context_t;
      readonly key: string;
    },
  ) {
    this.#options = options;
    this.#lender = lender;
    this.#response = handshake.response;
    this.#context = handshake.context;
    this.#key = handshake.key;
  }

  /** The handler of the handshake is over: what is answered from here on is late. */
  handled(): void {
    this.#isHandling = false;
  }

  letIn(_role: 'sender' | 'rendezvous', protocol: string | undefined, onChannel: OnChannel): void {
    this.#upgrade(this.#options.channelSocket(onChannel), protocol);
  }

  letListenerIn(open: (socket: ControlSocket) => ControlChannel): void {
    const limits = {
      queueBytesMax: this.#options.controlQueueBytesMax,
      messageBytesMax: this.#options.controlMessageBytesMax,
    };
    this.#upgrade(new ControlWebSocket(this.#options.outbox, limits, open), undefined);
  }

  refuse(refused: Refused): void {
    this.#response.cork(() => writeRefusal(this.#response, refused, { closeConnection: true }));
  }

  reject(status: number, description: string): void {
    this.#response.cork(() => writeRejection(this.#response, status, description));
  }

  gone(): void {
    this.#response.cork(() => writeGone(this.#response));
  }

  #upgrade(socket: UpgradedSocket, protocol: string | undefined): void {
    // No extensions, ever: frames cross as they are, and two hops could not agree on compression.
    const data: SocketData = { socket };
    const upgrade = (): void =>
      this.#response.upgrade(data, this.#key, protocol ?? '', '', this.#context);
    if (this.#isHandling) {
      upgrade();
      return;
    }
    // uWebSockets.js writes it in two dozen pieces.
    this.#options.gathering(this.#response, () => this.#lender.cork(this.#response, upgrade));
  }
}

function handshakeFault({ path, headers }: RelayRequest): RefusalReason | undefined {
  return path.kind === 'websocket' ? upgradeFault(headers) : 'upgrade-outside-hc';
}
