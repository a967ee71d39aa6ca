import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { FrameParser, OPCODES } from '../../src/protocol/frames.ts';

/** A request and what was answered, as they came by; bodies as they were before compression. */
export interface Exchange {
  /** Who asks: the machine by REST, the cloud through the machine's control channel. */
  readonly from: 'machine' | 'cloud';
  readonly method: string;
  /** With its query. */
  readonly target: string;
  readonly body: Buffer;
  readonly status: number;
  readonly answer: Buffer;
}

export interface MessageTap extends AsyncDisposable {
  readonly origin: string;
  /** In the order in which they were answered. */
  readonly exchanges: readonly Exchange[];
}

/**
 * A place between machines and a server where all they say to each other comes by, over HTTP and over the WebSocket of
 * a control channel, and is written down without what belongs to the way: connections, frames, headers. Requests that go
 * by a rendezvous of their own are not seen; those of runs are short.
 */
export async function startMessageTap(serverPort: number): Promise<MessageTap> {
  const exchanges: Exchange[] = [];
  const open = new Set<Duplex>();
  const server = createServer((near, answer) => {
    const { method = '', url: path = '', headers } = near;
    const far = httpRequest({ host: '127.0.0.1', port: serverPort, method, path, headers });
    far.on('error', () => answer.destroy());
    const asked = copyOf(near);
    far.on('response', response => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      const answered = copyOf(response);
      response.pipe(answer);
      response.once('end', () => {
        const isPacked = headers['content-encoding'] === 'gzip';
        const body = isPacked ? gunzipSync(asked()) : asked();
        const { statusCode: status = 0 } = response;
        exchanges.push({ from: 'machine', method, target: path, body, status, answer: answered() });
      });
    });
    near.pipe(far);
  });
  server.on('connection', (socket: Duplex) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
  });
  server.on('upgrade', (head, near: Duplex) => {
    const far = connect(serverPort, '127.0.0.1');
    far.on('error', () => near.destroy());
    far.once('close', () => near.destroy());
    near.once('close', () => far.destroy());
    const lines = [`GET ${head.url} HTTP/1.1`];
    for (let at = 0; at < head.rawHeaders.length; at += 2) {
      lines.push(`${head.rawHeaders[at]}: ${head.rawHeaders[at + 1]}`);
    }
    far.write(`${lines.join('\r\n')}\r\n\r\n`);
    const channel = new ControlChannelReader(one => exchanges.push(one));
    far.on('data', (chunk: Buffer) => channel.push('cloud', chunk));
    near.on('data', (chunk: Buffer) => channel.push('machine', chunk));
    near.pipe(far).pipe(near);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    origin: `http://127.0.0.1:${address.port}`,
    exchanges,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise(resolve => void server.close(resolve));
    },
  };
}

type Asked = Pick<Exchange, 'method' | 'target' | 'body'>;

/** Puts requests and answers of a control channel together. Source: azure-relay-protocol 3 and 5. */
class ControlChannelReader {
  readonly #frames = { cloud: new FrameParser(), machine: new FrameParser() };
  readonly #messages = { cloud: new Messages(), machine: new Messages() };
  readonly #asked = new Map<string, Asked>();
  readonly #take: (exchange: Exchange) => void;
  /** The answer's head has gone by. */
  #isOpen = false;

  constructor(take: (exchange: Exchange) => void) {
    this.#take = take;
  }

  push(from: 'cloud' | 'machine', chunk: Buffer): void {
    let bytes = chunk;
    if (from === 'cloud' && !this.#isOpen) {
      bytes = chunk.subarray(chunk.indexOf('\r\n\r\n') + 4);
      this.#isOpen = true;
    }
    for (const { opcode, isFinal, payload } of this.#frames[from].push(bytes)) {
      if (opcode >= OPCODES.close) continue;
      const message = this.#messages[from].push(opcode, isFinal, Buffer.from(payload));
      if (message !== undefined) this.#read(from, message.head, message.body);
    }
  }

  #read(from: 'cloud' | 'machine', head: Readonly<Record<string, unknown>>, body: Buffer): void {
    if (from === 'cloud') {
      const { id, method, requestTarget } = Object(head['request']);
      this.#asked.set(String(id), { method, target: requestTarget, body });
      return;
    }
    const { requestId, statusCode } = Object(head['response']);
    const asked = this.#asked.get(String(requestId));
    if (asked === undefined) return;
    this.#asked.delete(String(requestId));
    this.#take({ from: 'cloud', ...asked, status: Number(statusCode), answer: body });
  }
}

/** Messages of one direction: a head in JSON, and the body that follows where it says that one does. */
class Messages {
  #parts: Buffer[] = [];
  #opcode = 0;
  #head: Readonly<Record<string, unknown>> | undefined;

  push(opcode: number, isFinal: boolean, payload: Buffer) {
    if (opcode !== OPCODES.continuation) this.#opcode = opcode;
    this.#parts.push(payload);
    if (!isFinal) return undefined;
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    if (this.#opcode === OPCODES.text) {
      const head: Readonly<Record<string, unknown>> = Object(JSON.parse(whole.toString()));
      const { body } = Object(head['request'] ?? head['response']);
      this.#head = head;
      return body === true ? undefined : { head, body: Buffer.of() };
    }
    const head = this.#head ?? {};
    this.#head = undefined;
    return { head, body: whole };
  }
}

function copyOf(message: IncomingMessage): () => Buffer {
  const chunks: Buffer[] = [];
  message.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}
