import { once } from 'node:events';
import { WebSocket, type RawData } from 'ws';
import { formatResponse, parseServiceMessage } from '../../src/protocol/control-messages.ts';
import { Inbox } from './inbox.ts';
import type { TestRelay } from './relay.ts';
import { within } from './within.ts';

/** A relayed request, as it reached its listener. */
export interface ReceivedRequest {
  readonly id: string;
  readonly address: string;
  readonly method: string;
  readonly requestTarget: string;
  readonly requestHeaders: Readonly<Record<string, string>>;
  readonly remoteEndpoint: { readonly address: string; readonly port: number } | undefined;
  /** Empty where the message said that none follows. */
  readonly body: Buffer;
  readonly hasBody: boolean;
  /** What it came over: the control channel, or the rendezvous that its address led to. */
  readonly channel: WebSocket;
  readonly isByRendezvous: boolean;
}

export interface Answer {
  readonly status?: number;
  readonly phrase?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Undefined: `body` is false. */
  readonly body?: string | Uint8Array;
}

export interface ListenOptions {
  readonly path?: string;
  /** The listener's own id. */
  readonly id?: string;
  /** Further parameters of the URL. */
  readonly query?: string;
  /** False: requests that come as a mere address go to `pointers` and are not fetched. */
  readonly fetches?: boolean;
  /** False: control channel messages are only kept in `texts`. */
  readonly reads?: boolean;
}

/** A listener's own hands on the wire: nothing is answered unless the test answers it. */
export class HttpListener implements AsyncDisposable {
  readonly control: WebSocket;
  readonly requests = new Inbox<ReceivedRequest>('a request');
  /** Addresses that came alone. */
  readonly pointers = new Inbox<string>('an address');
  /** Every text message of the control channel, as it came. */
  readonly texts: string[] = [];
  readonly #sockets = new Set<WebSocket>();
  readonly #fetches: boolean;
  #serve: (request: ReceivedRequest) => void = request => this.requests.put(request);

  constructor(control: WebSocket, options: ListenOptions) {
    this.control = control;
    this.#fetches = options.fetches ?? true;
    this.#sockets.add(control);
    this.#read(control, false, options.reads ?? true);
  }

  /** The next request, wherever it came from. */
  next(): Promise<ReceivedRequest> {
    return this.requests.next();
  }

  /** Opens an address it was given. Messages may come as soon as it is open. */
  async dial(
    address: string,
    onMessage: (bytes: Buffer, isBinary: boolean, socket: WebSocket) => void = () => {},
  ): Promise<WebSocket> {
    const socket = new WebSocket(address, { perMessageDeflate: false });
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('message', (data: RawData, isBinary: boolean) =>
      onMessage(bytesOf(data), isBinary, socket),
    );
    await once(socket, 'open');
    return socket;
  }

  /** Dials, and says how it was refused. */
  async dialRefused(address: string): Promise<{ status: number; phrase: string }> {
    const socket = new WebSocket(address);
    socket.on('error', () => {});
    return new Promise((resolve, reject) => {
      socket.once('open', () => reject(new Error(`${address} was not refused`)));
      socket.once('unexpected-response', (_, response) => {
        response.resume();
        socket.terminate();
        resolve({ status: response.statusCode ?? 0, phrase: response.statusMessage ?? '' });
      });
    });
  }

  /** Answers in one go, over the channel that the request came by unless told otherwise. */
  answer(request: ReceivedRequest, answer: Answer = {}, over: WebSocket = request.channel): void {
    over.send(responseText(request.id, answer));
    if (answer.body !== undefined) over.send(Buffer.from(answer.body), { binary: true });
  }

  /** Answers every request from now on; `next` gives none of them. */
  serve(answer: (request: ReceivedRequest) => Answer): void {
    this.#serve = request => this.answer(request, answer(request));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) {
      socket.on('error', () => {});
      if (socket.readyState === WebSocket.CLOSED) continue;
      socket.terminate();
      await once(socket, 'close');
    }
  }

  #read(socket: WebSocket, isByRendezvous: boolean, isRead: boolean): void {
    let bodyOf: ((body: Buffer) => void) | undefined;
    socket.on('error', () => {});
    socket.on('message', (data: RawData, isBinary: boolean) => {
      const bytes = bytesOf(data);
      if (!isByRendezvous && !isBinary) this.texts.push(bytes.toString());
      if (!isRead) return;
      if (isBinary) {
        const take = bodyOf;
        bodyOf = undefined;
        take?.(bytes);
        return;
      }
      const message = parseServiceMessage(bytes.toString());
      if (message.type === 'requestPointer') {
        if (this.#fetches) void this.#fetch(message.address);
        else this.pointers.put(message.address);
        return;
      }
      if (message.type !== 'request') return;
      const put = (body: Buffer): void =>
        this.#serve({
          ...message,
          address: message.address ?? '',
          body,
          hasBody: message.body,
          channel: socket,
          isByRendezvous,
        });
      if (message.body) bodyOf = put;
      else put(Buffer.alloc(0));
    });
  }

  async #fetch(address: string): Promise<void> {
    const socket = new WebSocket(address, { perMessageDeflate: false });
    this.#sockets.add(socket);
    this.#read(socket, true, true);
    await once(socket, 'open');
  }
}

/** Registers a listener and waits until it is one. */
export async function listen(relay: TestRelay, options: ListenOptions = {}): Promise<HttpListener> {
  const { path = 'hyco', id, query = '' } = options;
  const ids = id === undefined ? '' : `&sb-hc-id=${id}`;
  const socket = new WebSocket(`${relay.wsUrl}/$hc/${path}?sb-hc-action=listen${ids}${query}`, {
    headers: { ServiceBusAuthorization: relay.token(path) },
    perMessageDeflate: false,
  });
  const listener = new HttpListener(socket, options);
  await once(socket, 'open');
  return listener;
}

/** The `response` message for a request. */
export function responseText(requestId: string, answer: Answer = {}): string {
  return formatResponse({
    requestId,
    statusCode: answer.status ?? 200,
    ...(answer.phrase === undefined ? {} : { statusDescription: answer.phrase }),
    responseHeaders: answer.headers ?? {},
    body: answer.body !== undefined,
  });
}

/** Code and reason with which the relay ends a socket. */
export async function closeOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  return within(
    'a Close',
    new Promise(resolve => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    }),
  );
}

function bytesOf(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}
