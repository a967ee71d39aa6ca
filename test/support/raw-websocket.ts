import { createHash, randomBytes } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import {
  encodeClosePayload,
  encodeFrame,
  FrameParser,
  OPCODES,
  parseClosePayload,
  type Frame,
} from '../../src/protocol/frames.ts';
import { Inbox } from './inbox.ts';
import { PATIENCE_MS, within } from './within.ts';

/** Pairs, so that a header can be repeated, and spelt as a test wants it. */
export type Headers = readonly (readonly [string, string])[];

export interface DialOptions {
  /** Further headers of the handshake. */
  readonly headers?: Headers;
  /** Headers of the usual handshake to leave out, in lower case. */
  readonly without?: readonly string[];
  /** In place of `GET`. */
  readonly method?: string;
  /** Bytes sent in one go with the handshake, before its answer. */
  readonly early?: Uint8Array;
}

/** The answer to a handshake: 101 with a `socket` to speak through, or a refusal. */
export interface HandshakeAnswer {
  readonly status: number;
  readonly reason: string;
  readonly headers: Headers;
  /** Body of a refusal. */
  readonly body: string;
  /** Undefined unless the status is 101. */
  readonly socket: RawWebSocket | undefined;
}

/** Values of a header, one per line of the answer. */
export function headerValues(answer: HandshakeAnswer, lowerCaseName: string): string[] {
  return answer.headers
    .filter(([name]) => name.toLowerCase() === lowerCaseName)
    .map(([, value]) => value);
}

/** A handshake under way. */
export interface Dialling {
  /** Sends bytes that may not be sent before the answer. */
  speak(bytes: Uint8Array): void;
  readonly answer: Promise<HandshakeAnswer>;
  /** Leaves without waiting for the answer, which then never comes. */
  abandon(): Promise<void>;
}

const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/**
 * Dials a WebSocket over a bare TCP or TLS socket, so that nothing is hidden: the handshake is the
 * text below, its answer is read header by header, and every frame shows.
 */
export function dial(url: string, options: DialOptions = {}): Dialling {
  const target = new URL(url);
  const key = randomBytes(16).toString('base64');
  const socket = openSocket(target);
  socket.setNoDelay().unref();
  const rawTarget = url.slice(url.indexOf(target.host) + target.host.length);
  socket.write(
    Buffer.concat([
      Buffer.from(handshakeText(rawTarget || '/', target.host, key, options), 'latin1'),
      options.early ?? Buffer.alloc(0),
    ]),
  );
  const answer = readAnswer(socket, key);
  // Who dials and is not interested in the answer need not handle its failure either.
  answer.catch(() => {});
  return {
    answer,
    speak: bytes => void socket.write(bytes),
    abandon: async () => {
      socket.destroy();
      await answer.catch(() => {});
    },
  };
}

/** Dials, and expects to get in. */
export async function open(url: string, options: DialOptions = {}): Promise<RawWebSocket> {
  const answer = await dial(url, options).answer;
  if (answer.socket === undefined) {
    throw new Error(`Refused: ${answer.status} ${answer.reason}`);
  }
  return answer.socket;
}

function openSocket(target: URL): Socket {
  const host = target.hostname.replaceAll(/[[\]]/g, '');
  const isSecure = target.protocol === 'wss:' || target.protocol === 'https:';
  const port = Number(target.port || (isSecure ? 443 : 80));
  return isSecure
    ? connectTls({ host, port, rejectUnauthorized: false })
    : connectTcp({ host, port, allowHalfOpen: true });
}

function handshakeText(target: string, host: string, key: string, options: DialOptions): string {
  const usual: Headers = [
    ['Host', host],
    ['Upgrade', 'websocket'],
    ['Connection', 'Upgrade'],
    ['Sec-WebSocket-Key', key],
    ['Sec-WebSocket-Version', '13'],
  ];
  const kept = usual.filter(([name]) => options.without?.includes(name.toLowerCase()) !== true);
  const lines = [...kept, ...(options.headers ?? [])].map(([name, value]) => `${name}: ${value}`);
  return `${[`${options.method ?? 'GET'} ${target} HTTP/1.1`, ...lines].join('\r\n')}\r\n\r\n`;
}

/** Sends bytes as they are and gives back all that comes until the other side ends. */
export async function exchangeRaw(url: string, bytes: string | Uint8Array): Promise<string> {
  const socket = openSocket(new URL(url));
  socket.write(bytes);
  const answer = new Promise<string>(resolve => {
    let text = '';
    socket.on('data', chunk => (text += chunk.toString('latin1')));
    socket.on('error', () => {});
    socket.once('end', () => socket.destroy());
    socket.once('close', () => resolve(text));
  });
  try {
    return await within('answer to raw bytes', answer);
  } finally {
    socket.destroy();
  }
}

async function readAnswer(socket: Socket, key: string): Promise<HandshakeAnswer> {
  let bytes = Buffer.alloc(0);
  const answer = new Promise<HandshakeAnswer>((resolve, reject) => {
    let status = 0;
    let reason = '';
    let headers: Headers = [];
    let headBytes = 0;
    let bodyBytes = Number.POSITIVE_INFINITY;
    const settle = (): void => {
      socket.removeAllListeners('data').removeAllListeners('close').removeAllListeners('end');
      const body = bytes.subarray(headBytes).toString();
      if (status !== 101) {
        socket.destroy();
        resolve({ status, reason, headers, body, socket: undefined });
        return;
      }
      const expected = createHash('sha1').update(`${key}${ACCEPT_SUFFIX}`).digest('base64');
      const accepts = headers.filter(([name]) => name.toLowerCase() === 'sec-websocket-accept');
      if (accepts.length !== 1 || accepts[0]?.[1] !== expected) {
        reject(new Error(`Wrong Sec-WebSocket-Accept: ${JSON.stringify(accepts)}`));
        return;
      }
      const ws = new RawWebSocket(socket, bytes.subarray(headBytes));
      resolve({ status, reason, headers, body: '', socket: ws });
    };
    socket.on('data', chunk => {
      bytes = Buffer.concat([bytes, chunk]);
      if (headBytes === 0) {
        const end = bytes.indexOf('\r\n\r\n');
        if (end === -1) return;
        headBytes = end + 4;
        const [statusLine = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
        const match = /^HTTP\/1\.1 (\d{3}) (.*)$/.exec(statusLine);
        if (match === null) {
          reject(new Error(`No status line: ${statusLine}`));
          return;
        }
        status = Number(match[1]);
        reason = match[2] ?? '';
        headers = lines.map(line => {
          const colon = line.indexOf(': ');
          return [line.slice(0, colon), line.slice(colon + 2)] as const;
        });
        const length = headers.find(([name]) => name.toLowerCase() === 'content-length')?.[1];
        if (length !== undefined) bodyBytes = Number(length);
        if (status === 101 || status === 204 || status === 304) bodyBytes = 0;
      }
      if (bytes.length >= headBytes + bodyBytes) settle();
    });
    socket.on('error', () => {});
    const ended = (): void => {
      if (headBytes > 0) settle();
      else reject(new Error('Cut before an answer'));
    };
    socket.once('end', ended);
    socket.once('close', ended);
  });
  answer.catch(() => socket.destroy());
  return answer;
}

export interface SendOptions {
  readonly opcode?: number;
  /** Whether the message ends here; true unless said otherwise. */
  readonly fin?: boolean;
}

export interface CloseFrame {
  readonly code: number;
  readonly reason: string;
}

/**
 * A client's end of a WebSocket that does nothing by itself: no pong, no answer to Close, no FIN.
 * Nobody has to close it: it is cut when its relay stops, and keeps no process alive.
 */
export class RawWebSocket {
  readonly #socket: Socket;
  readonly #parser = new FrameParser();
  readonly #frames = new Inbox<Frame>('a frame');
  readonly #gone: Promise<void>;
  readonly #ended: Promise<void>;
  #payloadBytes = 0;
  #isEnded = false;

  constructor(socket: Socket, head: Uint8Array) {
    this.#socket = socket;
    this.#ended = new Promise(resolve => {
      socket.once('end', () => {
        this.#isEnded = true;
        this.#frames.end(new Error('The relay ended the connection'));
        resolve();
      });
      socket.once('close', () => {
        this.#frames.end(new Error('The connection is gone'));
        resolve();
      });
    });
    this.#gone = new Promise(resolve => {
      socket.once('close', () => resolve());
    });
    this.#take(head);
    socket.on('data', chunk => this.#take(chunk));
  }

  /** Payload bytes of data frames that have come so far. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  /** Bytes handed over that the system has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Frames that have come and were not asked for yet. */
  get waitingFrames(): number {
    return this.#frames.size;
  }

  /** Whether the relay has ended its direction of TCP. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** The next frame, whatever it is. */
  nextFrame(patienceMs = PATIENCE_MS): Promise<Frame> {
    return this.#frames.next(patienceMs);
  }

  /** The next frame, which must be a whole text message. */
  async nextText(patienceMs = PATIENCE_MS): Promise<string> {
    const frame = await this.nextFrame(patienceMs);
    if (frame.opcode !== OPCODES.text || !frame.isFinal) throw unexpected('a text message', frame);
    return Buffer.from(frame.payload).toString();
  }

  /** The next message, put together, and how many frames it took; pings and pongs are passed over. */
  async nextMessage(): Promise<{ opcode: number; payload: Buffer; frames: number }> {
    const payloads: Uint8Array[] = [];
    let opcode: number = OPCODES.continuation;
    for (;;) {
      const frame = await this.nextFrame();
      if (frame.opcode === OPCODES.ping || frame.opcode === OPCODES.pong) continue;
      if (frame.opcode === OPCODES.close) throw unexpected('a message', frame);
      if (payloads.length === 0) opcode = frame.opcode;
      payloads.push(frame.payload);
      if (frame.isFinal) {
        return { opcode, payload: Buffer.concat(payloads), frames: payloads.length };
      }
    }
  }

  /** The next frame, which must be a Close. */
  async nextClose(patienceMs = PATIENCE_MS): Promise<CloseFrame> {
    const frame = await this.nextFrame(patienceMs);
    if (frame.opcode !== OPCODES.close) throw unexpected('a Close', frame);
    return parseClosePayload(frame.payload);
  }

  /** The relay has ended its direction of TCP, or broken the connection. */
  ended(patienceMs = PATIENCE_MS): Promise<void> {
    return within('end of the connection', this.#ended, patienceMs);
  }

  send(payload: string | Uint8Array, { opcode, fin = true }: SendOptions = {}): void {
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
    this.sendRaw(
      encodeFrame({
        opcode: opcode ?? (typeof payload === 'string' ? OPCODES.text : OPCODES.binary),
        payload: bytes,
        isFinal: fin,
        mask: randomBytes(4).readUInt32BE(),
      }),
    );
  }

  /** Bytes as they are: parts of frames, or what is no frame at all. */
  sendRaw(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** All that was sent has been taken by the system; fails when the connection broke first. */
  async flushed(): Promise<void> {
    await within(
      'bytes to be taken',
      new Promise<void>((resolve, reject) => {
        this.#socket.write('', error => (error instanceof Error ? reject(error) : resolve()));
      }),
    );
  }

  sendClose(code?: number, reason?: string): void {
    this.send(encodeClosePayload(code, reason), { opcode: OPCODES.close });
  }

  /** Close frame, the other side's Close, FIN: the whole ceremony, as a polite client does it. */
  async close(code = 1000, reason = ''): Promise<void> {
    this.sendClose(code, reason);
    for (;;) {
      const frame = await this.nextFrame();
      if (frame.opcode === OPCODES.close) break;
    }
    this.fin();
    await this.ended();
  }

  /** Stops reading, so that the relay's buffers towards this client fill up. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends this direction of TCP. */
  fin(): void {
    this.#socket.end();
  }

  /** Breaks the connection: with a TCP reset, or under TLS with an end that TLS did not announce. */
  async reset(): Promise<void> {
    if (this.#socket instanceof TLSSocket) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
    await this.#gone;
  }

  #take(bytes: Uint8Array): void {
    for (const frame of this.#parser.push(bytes)) {
      if (frame.isMasked) throw new Error('The relay sent a masked frame');
      if (frame.opcode <= OPCODES.binary) this.#payloadBytes += frame.payload.length;
      this.#frames.put(frame);
    }
  }
}

function unexpected(wanted: string, { opcode, isFinal, payload }: Frame): Error {
  const shown = Buffer.from(payload).toString('latin1').slice(0, 200);
  return new Error(
    `Not ${wanted}: opcode ${opcode}, fin ${isFinal}, ${payload.length} B: ${shown}`,
  );
}
