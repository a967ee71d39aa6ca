import { createHash, randomBytes } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { encodeClosePayload, encodeFrame, parseClosePayload } from '../../protocol/frames.ts';
import { CLOSE_CODE_LOST, CLOSE_CODE_NONE, OPCODES } from '../../protocol/frames.ts';
import { FrameReader } from './frame-reader.ts';

// A WebSocket client that shows fragments as they arrive and leaves Close to its user: the `ws` package gives whole
// messages only, which makes a long request body one piece in memory, and answers Close by itself, which ends what
// the other direction still has to say. To be replaced by src/client/ when that exists.

export interface SocketEvents {
  /** A piece of a message; the first of each has opcode text or binary, the others continuation. */
  fragment(opcode: number, fin: boolean, payload: Buffer): void;
  /** `send` may go on. */
  drained?(): void;
  /** The peer's Close frame: it sends nothing more. 1005 when it had no code. */
  closed(code: number, reason: string): void;
  /** The last event, once. The code is 1006 when the connection broke before the peer's Close frame. */
  gone(code: number): void;
}

export interface DialOptions {
  readonly clock: Clock;
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
  /** How long the handshake may take, in milliseconds. */
  readonly timeoutMs?: number;
}

/** The server answered the handshake with something else than 101. */
export class HandshakeRefused extends Error {
  override readonly name = 'HandshakeRefused';
  readonly status: number;

  constructor(status: number, reason: string) {
    super(`${status} ${reason}`);
    this.status = status;
  }
}

const HANDSHAKE_TIMEOUT_MS = 70_000;
/** How long the server may take to end the connection after both sides have closed. */
const CLOSE_TIMEOUT_MS = 10_000;
const HEADER_BYTES_MAX = 65_536;
/** RFC 6455, section 1.3. */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/**
 * Opens a WebSocket to a ws:// or wss:// address, used as given. Rejects with `HandshakeRefused`, or with the error
 * of the connection. Nothing is read before `receive`.
 */
export function dial(address: string, options: DialOptions): Promise<FrameSocket> {
  const url = new URL(address.replace(/^ws/i, 'http'));
  const key = randomBytes(16).toString('base64');
  const protocols = options.protocols ?? [];
  const headers = {
    ...options.headers,
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': key,
    ...(protocols.length > 0 ? { 'Sec-WebSocket-Protocol': protocols.join(', ') } : {}),
  };
  return new Promise((resolve, reject) => {
    const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = open(url, { headers, maxHeaderSize: HEADER_BYTES_MAX, agent: false });
    const cancelTimeout = options.clock.after(options.timeoutMs ?? HANDSHAKE_TIMEOUT_MS, () =>
      request.destroy(new Error('the WebSocket handshake took too long')),
    );
    request.once('error', error => {
      cancelTimeout();
      reject(error);
    });
    request.once('response', response => {
      cancelTimeout();
      reject(new HandshakeRefused(response.statusCode ?? 0, response.statusMessage ?? ''));
      request.destroy();
    });
    request.once('upgrade', (response, stream, head) => {
      cancelTimeout();
      if (isAccepted(response, key)) {
        const protocol = response.headers['sec-websocket-protocol'] ?? '';
        resolve(new FrameSocket(stream, { head, protocol, clock: options.clock }));
        return;
      }
      stream.destroy();
      reject(new Error('the server does not speak WebSocket: its Sec-WebSocket-Accept is wrong'));
    });
    request.end();
  });
}

function isAccepted(response: IncomingMessage, key: string): boolean {
  const expected = createHash('sha1').update(`${key}${ACCEPT_SUFFIX}`).digest('base64');
  return response.headers['sec-websocket-accept'] === expected;
}

/** An open WebSocket: open ── close sent and close received, in any order ──▶ closing ──▶ gone. */
export class FrameSocket {
  /** The subprotocol that the server chose; '' when none. */
  readonly protocol: string;
  readonly #stream: Duplex;
  readonly #clock: Clock;
  #head: Buffer;
  #events: SocketEvents | undefined;
  #closeSent = false;
  #closeReceived: number | undefined;

  constructor(
    stream: Duplex,
    start: { readonly head: Buffer; readonly protocol: string; readonly clock: Clock },
  ) {
    this.#stream = stream;
    this.#head = start.head;
    this.#clock = start.clock;
    this.protocol = start.protocol;
    // Without a listener an error between handshake and `receive` would end the process.
    stream.on('error', () => stream.destroy());
  }

  /** Takes over all events, once, and starts reading. */
  receive(events: SocketEvents): void {
    this.#events = events;
    const reader = new FrameReader({
      data: (opcode, fin, payload) => {
        if (this.#closeReceived === undefined) events.fragment(opcode, fin, payload);
      },
      control: (opcode, payload) => this.#control(opcode, payload),
    });
    const read = (chunk: Buffer): void => {
      if (reader.push(chunk) !== undefined) this.destroy();
    };
    this.#stream.on('drain', () => events.drained?.());
    this.#stream.on('end', () => this.#stream.destroy());
    if (this.#stream.closed) {
      events.gone(CLOSE_CODE_LOST);
      return;
    }
    this.#stream.once('close', () => events.gone(this.#closeReceived ?? CLOSE_CODE_LOST));
    const head = this.#head;
    this.#head = Buffer.alloc(0);
    if (head.length > 0) read(head);
    this.#stream.on('data', read);
  }

  /** Sends one fragment. False: stop until `drained`; what was given is sent all the same. */
  send(opcode: number, fin: boolean, payload: Uint8Array): boolean {
    if (this.#closeSent || this.#stream.destroyed) return true;
    return this.#write(opcode, payload, fin);
  }

  /** Sends a Close frame; what the peer still sends goes on arriving. Safe to call twice. */
  close(code = CLOSE_CODE_NONE, reason = ''): void {
    if (this.#closeSent || this.#stream.destroyed) return;
    this.#write(
      OPCODES.close,
      encodeClosePayload(code === CLOSE_CODE_NONE ? undefined : code, reason),
    );
    this.#closeSent = true;
    this.#endWhenBothClosed();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #control(opcode: number, payload: Buffer): void {
    if (opcode === OPCODES.ping && !this.#closeSent) this.#write(OPCODES.pong, payload);
    if (opcode !== OPCODES.close || this.#closeReceived !== undefined) return;
    const { code, reason } = parseClosePayload(payload);
    this.#closeReceived = code;
    this.#events?.closed(code, reason);
    this.#endWhenBothClosed();
  }

  /** The server ends the TCP connection, as the RFC wants it; a server that does not is cut. */
  #endWhenBothClosed(): void {
    if (!this.#closeSent || this.#closeReceived === undefined) return;
    const cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => this.destroy());
    this.#stream.once('close', cancel);
    // The end of the stream is seen only while it is read.
    this.#stream.resume();
  }

  #write(opcode: number, payload: Uint8Array, isFinal = true): boolean {
    const mask = randomBytes(4).readUInt32BE();
    return this.#stream.write(encodeFrame({ opcode, payload, isFinal, mask }));
  }
}
