import type { WebSocket, WebSocketBehavior } from 'uWebSockets.js';
import {
  parsePollQuery,
  type PollQuestion,
  type PollSessionId,
} from '../../protocol/poll-session.ts';
import { closeReason, REFUSALS } from '../../protocol/refusals.ts';
import type { PollDoor, PollRefused } from '../../relay/poll-door.ts';
import type { RelayRequest } from '../../relay/ports.ts';
import { readIncoming, type IncomingOptions } from '../incoming.ts';
import { header } from '../request-snapshot.ts';
import type { SocketData, UpgradedSocket } from '../upgraded-socket.ts';
import {
  BACKPRESSURE_BYTES_MAX,
  idleTimeoutSeconds,
  upgradeFault,
} from '../websocket-handshake.ts';
import { findDoor } from './poll-doors.ts';
import { PollExchange } from './poll-exchange.ts';
import { PollPump } from './poll-pump.ts';
import { sessionOf, type PollRouteOptions } from './poll-route.ts';
import { POLL_BATCH_BYTES_MAX } from './poll-sessions.ts';

/** Where the route is, as uWebSockets.js names places. */
export const POLL_SOCKET_PATTERN = '/$poll/*';

export interface PollSocketOptions extends PollRouteOptions {
  readonly incoming: IncomingOptions;
  readonly keepAliveMs: number;
}

/** Sessions that go on over a WebSocket: every message is a batch. */
export function pollSocketRoute(options: PollSocketOptions): WebSocketBehavior<SocketData> {
  return {
    maxPayloadLength: POLL_BATCH_BYTES_MAX,
    maxBackpressure: BACKPRESSURE_BYTES_MAX,
    idleTimeout: idleTimeoutSeconds(options.keepAliveMs),
    sendPingsAutomatically: true,
    upgrade: (response, httpRequest, context) => {
      const { request, fault } = readIncoming(response, httpRequest, options.incoming);
      const resumed: Resumption | PollRefused =
        fault === 'portal-host' ? { reason: fault } : resumption(options, request);
      if ('reason' in resumed) {
        const exchange = new PollExchange(response, options, { isHead: false, hasBody: true });
        exchange.refuse(options.relay.refuse(resumed.reason, request, 'poll', resumed.detail));
        return;
      }
      const socket = new PollSocket(options, request, resumed);
      const key = header(request.headers, 'sec-websocket-key') ?? '';
      response.upgrade<SocketData>({ socket }, key, '', '', context);
    },
    open: ws => ws.getUserData().socket.opened(ws),
    message: (ws, message, isBinary) => ws.getUserData().socket.message(message, isBinary),
    drain: ws => ws.getUserData().socket.drained(),
    close: (ws, code) => ws.getUserData().socket.closed(code, ''),
  };
}

/** A session that is to go on, and from where. */
interface Resumption {
  readonly id: PollSessionId;
  readonly door: PollDoor;
  readonly question: PollQuestion;
}

function resumption(options: PollSocketOptions, request: RelayRequest): Resumption | PollRefused {
  const fault = upgradeFault(request.headers);
  if (fault !== undefined) return { reason: fault };
  const id = sessionOf(request);
  if (id === undefined) return { reason: 'session-unknown' };
  const found = findDoor(id, options.sessions, options.elsewhere);
  if ('reason' in found) return found;
  const question = parsePollQuery(request.query.userQuery);
  if (typeof question === 'string') return { reason: 'poll-malformed', detail: question };
  return { id, door: found.door, question };
}

/** However wide the window is: a client keeps what is not acknowledged, and has limits of its own. */
const ACK_BYTES_MAX = 131_072;

/** One WebSocket that a session goes over. */
class PollSocket implements UpgradedSocket {
  readonly #options: PollSocketOptions;
  readonly #request: RelayRequest;
  readonly #pump: PollPump;
  #ws: WebSocket<SocketData> | undefined;

  constructor(options: PollSocketOptions, request: RelayRequest, resumed: Resumption) {
    this.#options = options;
    this.#request = request;
    this.#pump = new PollPump({
      ...resumed,
      ackBytesMax: Math.min(options.sessions.limits.windowBytes / 4, ACK_BYTES_MAX),
      sink: {
        send: batch => this.#send(batch),
        refused: refusal => this.#refuse(refusal),
      },
    });
  }

  opened(ws: WebSocket<SocketData>): void {
    this.#ws = ws;
    this.#options.sessions.counters.resumed += 1;
    this.#later(() => this.#pump.start());
  }

  message(message: ArrayBuffer, isBinary: boolean): void {
    // Lent for the call only.
    const bytes = new Uint8Array(message.slice(0));
    this.#later(() => {
      if (isBinary) this.#pump.message(bytes);
      else this.#refuse({ reason: 'poll-malformed', detail: 'batches are binary messages' });
    });
  }

  drained(): void {
    this.#later(() => {
      if (this.#ws?.getBufferedAmount() === 0) this.#pump.drained();
    });
  }

  closed(): void {
    this.#ws = undefined;
    // Behind the messages that came before.
    this.#later(() => this.#pump.stop());
  }

  /** While uWebSockets.js handles one socket it has that one corked, and sessions may write to others. */
  #later(task: () => void): void {
    this.#options.outbox.put(task);
  }

  #send(batch: Uint8Array): boolean {
    const ws = this.#ws;
    if (ws === undefined) return false;
    ws.cork(() => void ws.send(batch, true));
    return ws.getBufferedAmount() === 0;
  }

  #refuse({ reason, detail }: PollRefused): void {
    const ws = this.#ws;
    if (ws === undefined) return;
    if (reason === 'session-gone') {
      ws.end(1000, reason);
      return;
    }
    this.#options.relay.refuse(reason, this.#request, 'poll', detail);
    ws.end(1008, closeReason(`${reason}: ${detail ?? REFUSALS[reason].text}`));
  }
}
