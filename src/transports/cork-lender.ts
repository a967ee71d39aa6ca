import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { us_listen_socket, WebSocket } from 'uWebSockets.js';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { LISTEN_EXCLUSIVE, uWS } from './uws.ts';

const LOOPBACK = '127.0.0.1';
/** How long one attempt to open it may take. */
const OPEN_TIMEOUT_MS = 5_000;
/** Between a connection that was lost, or could not be made, and the next attempt. */
const RETRY_MS = 1_000;
const PATH_BYTES = 16;
/** RFC 6455, section 4.1. */
const KEY_BYTES = 16;

type LentWebSocket = WebSocket<unknown>;

/** What is needed of an `HttpResponse`. */
interface Corkable {
  cork(write: () => void): unknown;
}

/** One connection of the process to itself: both ends, and what made them. */
interface Loop {
  readonly ws: LentWebSocket;
  close(): void;
}

/**
 * A WebSocket of the process to itself, which is corked in place of a client's whose `upgrade` comes late: outside of
 * the handler of its own handshake.
 *
 * After an upgrade inside a `cork` that took hold of the response, uWebSockets.js tells by the address of the socket
 * whether it has become a WebSocket. Where reallocation left it in place, it is taken for an HTTP response still: flags
 * are read that are none, and the client is cut (one in some hundreds were), or gets a timeout of 10 s. With another
 * socket corked, nothing is done afterwards. Without any, all is well but for a warning on standard error each time.
 * A client's WebSocket would do as well, were there always one.
 *
 * No byte ever crosses it, and nobody else can reach it: its port listens until that one connection is there, which
 * must name a secret path. Should it be lost all the same, another one is made.
 */
export class CorkLender {
  readonly #clock: Clock;
  #loop: Loop | undefined;
  #cancelRetry: CancelTimer | undefined;
  #isClosed = false;

  private constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Never rejects: where it cannot be opened, it tries again until `close`, and corks nothing meanwhile. */
  static async open(clock: Clock): Promise<CorkLender> {
    const lender = new CorkLender(clock);
    await lender.#open();
    return lender;
  }

  /** Whether there is something to cork. */
  get isOpen(): boolean {
    return this.#loop !== undefined;
  }

  /** Calls `upgrade`, which upgrades `response`, once and at once. */
  cork(response: Corkable, upgrade: () => void): void {
    // While another socket is corked, the response's own `cork` only says that there is one.
    if (this.#loop === undefined) upgrade();
    else this.#loop.ws.cork(() => response.cork(upgrade));
  }

  /** Cuts the connection. Safe to call twice. */
  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#loop?.close();
  }

  async #open(): Promise<void> {
    const loop = await openLoop(this.#clock, () => {
      this.#loop = undefined;
      this.#openLater();
    });
    if (this.#isClosed) loop?.close();
    else if (loop === undefined) this.#openLater();
    else this.#loop = loop;
  }

  #openLater(): void {
    if (this.#isClosed) return;
    this.#cancelRetry = this.#clock.after(RETRY_MS, () => void this.#open());
  }
}

/** Undefined when it could not be made in time. `onLost` is called once if it could, when it is over. */
async function openLoop(clock: Clock, onLost: () => void): Promise<Loop | undefined> {
  const path = `/${randomBytes(PATH_BYTES).toString('hex')}`;
  const app = uWS.App();
  const arrived = new Promise<LentWebSocket>(resolve => {
    app.ws(path, {
      // It is silent for ever.
      idleTimeout: 0,
      open: resolve,
      close: onLost,
    });
  });
  const listening = await new Promise<us_listen_socket | false>(resolve => {
    app.listen(LOOPBACK, 0, LISTEN_EXCLUSIVE, resolve);
  });
  if (listening === false) return undefined;
  const client = dial(uWS.us_socket_local_port(listening), path);
  let cancelTimeout: CancelTimer | undefined;
  const failed = new Promise<undefined>(resolve => {
    client.once('close', () => resolve(undefined));
    cancelTimeout = clock.after(OPEN_TIMEOUT_MS, () => resolve(undefined));
  });
  const ws = await Promise.race([arrived, failed]);
  cancelTimeout?.();
  uWS.us_listen_socket_close(listening);
  if (ws !== undefined) return { ws, close: () => ws.close() };
  client.destroy();
  app.close();
  return undefined;
}

/** The other end: it says what opens a WebSocket, and nothing ever after. */
function dial(port: number, path: string): Socket {
  const key = randomBytes(KEY_BYTES).toString('base64');
  const socket = connect(port, LOOPBACK, () => {
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
  });
  // Its end shows as a close; without a listener an error would end the process.
  return socket.on('error', () => {}).resume();
}
