import { connect, type Socket } from 'node:net';
import {
  encodeClosePayload,
  encodeFrame,
  FrameParser,
  OPCODES,
  parseClosePayload,
  type Frame,
} from '../../src/protocol/frames.ts';
import { within } from './within.ts';

/** Where a server listens: a TCP port of 127.0.0.1, or a Unix socket. */
export type Address = number | string;

export interface SendOptions {
  readonly isFinal?: boolean;
  readonly mask?: number;
}

const HEAD_END = '\r\n\r\n';
const DEFAULT_MASK = 0x1bad_c0de;

function handshake(path: string): string {
  return [
    `GET ${path} HTTP/1.1`,
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    HEAD_END,
  ].join('\r\n');
}

/**
 * A WebSocket client that does nothing of its own accord: it sends the bytes it is told, and shows those that come. It
 * answers no Close and no ping, and ends TCP when told.
 */
export class FrameClient {
  readonly socket: Socket;
  /** FIN or a reset has come. */
  readonly ended: Promise<void>;
  /** The socket is gone, on both directions. */
  readonly closed: Promise<void>;
  /** Every byte behind the answer to the handshake, while `keepsBytes`. */
  keepsBytes = false;
  #kept: Buffer[] = [];
  readonly #parser = new FrameParser();
  readonly #frames: Frame[] = [];
  #wake: (() => void) | undefined;
  #isEnded = false;
  readonly #isMasking: boolean;

  private constructor(socket: Socket, isMasking: boolean) {
    this.socket = socket;
    this.#isMasking = isMasking;
    this.ended = new Promise(resolve => {
      const end = (): void => {
        this.#isEnded = true;
        this.#wake?.();
        resolve();
      };
      socket.once('end', end).once('close', end);
    });
    this.closed = new Promise(resolve => void socket.once('close', () => resolve()));
    socket.on('error', () => {});
  }

  /** Resolves once the server has answered 101. `early` is sent in one piece with the handshake. */
  static async open(
    address: Address,
    path: string,
    early: Uint8Array = Buffer.alloc(0),
  ): Promise<FrameClient> {
    const socket =
      typeof address === 'number'
        ? connect({ port: address, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
        : connect({ path: address, allowHalfOpen: true });
    const client = new FrameClient(socket, true);
    socket.write(Buffer.concat([Buffer.from(handshake(path)), early]));
    const answered = new Promise<void>((resolve, reject) => {
      let head = '';
      const onHead = (bytes: Buffer): void => {
        head += bytes.toString('latin1');
        const end = head.indexOf(HEAD_END);
        if (end === -1) return;
        if (!head.startsWith('HTTP/1.1 101')) reject(new Error(head));
        socket.off('data', onHead);
        socket.on('data', (data: Buffer) => client.#take(data));
        client.#take(Buffer.from(head.slice(end + HEAD_END.length), 'latin1'));
        resolve();
      };
      socket.on('data', onHead);
      socket.once('close', () => reject(new Error('Closed during the handshake')));
    });
    await within('the answer to a handshake', answered);
    return client;
  }

  /** Another node, at the far end of a stream: unmasked frames from the first byte. */
  static ofStream(socket: Socket): FrameClient {
    const client = new FrameClient(socket, false);
    socket.on('data', (data: Buffer) => client.#take(data));
    return client;
  }

  /** A frame as this client sends it. */
  frame(opcode: number, payload: Uint8Array | string, options: SendOptions = {}): Uint8Array {
    return this.#isMasking
      ? clientFrame(opcode, payload, options)
      : nodeFrame(opcode, payload, options);
  }

  /** Frames that have come and were not asked for yet. */
  get frames(): readonly Frame[] {
    return this.#frames;
  }

  send(opcode: number, payload: Uint8Array | string, options: SendOptions = {}): void {
    this.write(this.frame(opcode, payload, options));
  }

  sendText(text: string): void {
    this.send(OPCODES.text, text);
  }

  sendClose(code?: number, reason?: string): void {
    this.send(OPCODES.close, encodeClosePayload(code, reason));
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Writes, and waits until the system has taken it all. */
  async flush(bytes: Uint8Array): Promise<void> {
    const written = new Promise<void>(resolve => void this.socket.write(bytes, () => resolve()));
    await within('bytes to be taken', written, 20_000);
  }

  fin(): void {
    this.socket.end();
  }

  /** Breaks the connection: RST on TCP; a Unix socket knows nothing ruder than closing. */
  reset(): void {
    if (this.socket.remotePort === undefined) this.socket.destroy();
    else this.socket.resetAndDestroy();
  }

  /** The next frame; undefined once the server has ended TCP. */
  async next(what = 'a frame', patienceMs?: number): Promise<Frame | undefined> {
    while (this.#frames.length === 0 && !this.#isEnded) {
      const woken = new Promise<void>(resolve => (this.#wake = resolve));
      await within(what, woken, patienceMs);
    }
    return this.#frames.shift();
  }

  async nextText(): Promise<string> {
    const frame = await this.next('a text');
    if (frame === undefined || frame.opcode !== OPCODES.text) {
      throw new Error(`Expected a text, got ${JSON.stringify(frame)}`);
    }
    return new TextDecoder().decode(frame.payload);
  }

  /** The next frame, which must be Close: its code and reason. */
  async nextClose(): Promise<{ code: number; reason: string }> {
    const frame = await this.next('a Close');
    if (frame === undefined || frame.opcode !== OPCODES.close) {
      throw new Error(`Expected a Close, got ${JSON.stringify(frame)}`);
    }
    return parseClosePayload(frame.payload);
  }

  /** The server ends TCP without another frame. */
  async nextEnd(): Promise<void> {
    const frame = await this.next('the end');
    if (frame !== undefined) throw new Error(`Expected the end, got ${JSON.stringify(frame)}`);
  }

  /** What has come and was kept, and forgets it. */
  takeBytes(): Buffer {
    const bytes = Buffer.concat(this.#kept);
    this.#kept = [];
    return bytes;
  }

  #take(bytes: Buffer): void {
    if (this.keepsBytes) this.#kept.push(bytes);
    else this.#frames.push(...this.#parser.push(bytes));
    this.#wake?.();
  }
}

/** A frame as another node sends it. */
export function nodeFrame(
  opcode: number,
  payload: Uint8Array | string,
  { isFinal = true }: Omit<SendOptions, 'mask'> = {},
): Uint8Array {
  const bytes = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
  return encodeFrame({ opcode, payload: bytes, isFinal });
}

/** A frame as a client sends it. */
export function clientFrame(
  opcode: number,
  payload: Uint8Array | string,
  { isFinal = true, mask = DEFAULT_MASK }: SendOptions = {},
): Uint8Array {
  const bytes = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
  return encodeFrame({ opcode, payload: bytes, isFinal, mask });
}
