// Listeners and senders of several makers behind one interface, so that each can be put before each.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import HycoWs from 'hyco-ws';
import WebSocket from 'ws';
import {
  HybridConnectionClient,
  HybridConnectionListener,
  type Answer,
  type ListenerHandlers,
  type RelayConnection,
  type RelayedRequest,
  type RelayOptions,
} from '../../src/client/client.ts';
import { Inbox } from '../support/inbox.ts';
import { ROOT_KEY, type TestRelay } from '../support/relay.ts';
import { within } from '../support/within.ts';

type Transport = NonNullable<RelayOptions['transport']>;

/** One side of a joined pair. */
export interface Side {
  readonly protocol: string;
  send(data: string | Buffer): Promise<void> | void;
  /** The next message: a string when it was text. */
  next(patienceMs?: number): Promise<string | Buffer>;
  close(code: number, reason: string): void;
  /** Breaks off. */
  break(): void;
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

export interface ListenerUnderTest extends AsyncDisposable {
  /** The next sender that was accepted. */
  next(): Promise<Side>;
}

export interface Sender {
  readonly name: string;
  connect(relay: TestRelay, protocols?: readonly string[]): Promise<Side>;
}

export interface ListenerMaker {
  readonly name: string;
  listen(relay: TestRelay): Promise<ListenerUnderTest>;
}

export function optionsFor(relay: TestRelay, more: Partial<RelayOptions> = {}): RelayOptions {
  return {
    connectionString:
      `Endpoint=${relay.httpUrl}/;SharedAccessKeyName=root;SharedAccessKey=${ROOT_KEY};` +
      'EntityPath=hyco',
    transport: 'websocket',
    ...more,
  };
}

/** Opens a listener of ours that closes at the end of its scope. */
export async function openListener(
  options: RelayOptions,
  handlers: ListenerHandlers = {},
): Promise<HybridConnectionListener & AsyncDisposable> {
  const listener = new HybridConnectionListener(options, handlers);
  await within('the listener online', listener.open());
  return Object.assign(listener, {
    [Symbol.asyncDispose]: () => listener.close({ timeoutMs: 0 }),
  });
}

export function sideOf(connection: RelayConnection): Side {
  return {
    protocol: connection.protocol,
    send: data => connection.send(data),
    next: async patienceMs => {
      const message = await within('a message', connection.receive(), patienceMs);
      if (message === undefined) throw new Error('The other side has closed');
      return message.data;
    },
    close: (code, reason) => {
      connection.close(code, reason).catch(() => undefined);
    },
    break: () => connection.destroy(),
    closed: connection.closed,
  };
}

function libraryCloses(socket: InstanceType<typeof HycoWs> | WebSocket): Side['closed'] {
  return new Promise(resolve => {
    socket.once('close', (code: unknown, reason: unknown) => {
      resolve({ code: Number(code), reason: String(reason) });
    });
  });
}

function hycoSide(socket: InstanceType<typeof HycoWs>): Side {
  const inbox = new Inbox<string | Buffer>('a message');
  socket.on('message', (data: string | Buffer) => inbox.put(data));
  socket.on('error', () => undefined);
  return {
    // The package hands a connection out before it is open.
    get protocol() {
      return socket.protocol ?? '';
    },
    send: data => socket.send(data),
    next: patienceMs => inbox.next(patienceMs),
    close: (code, reason) => socket.close(code, reason),
    break: () => socket.terminate(),
    closed: libraryCloses(socket),
  };
}

export function ourSender(transport: Transport): Sender {
  return {
    name: `halfway/client (${transport})`,
    connect: async (relay, protocols = []) => {
      const client = new HybridConnectionClient(optionsFor(relay, { transport }));
      return sideOf(await within('the sender', client.connect({ protocols })));
    },
  };
}

export function ourListener(transport: Transport): ListenerMaker {
  return {
    name: `halfway/client (${transport})`,
    listen: async relay => {
      const accepted = new Inbox<Side>('a connection');
      const listener = await openListener(optionsFor(relay, { transport }), {
        onConnection: async offer => accepted.put(sideOf(await offer.accept())),
      });
      return {
        next: () => accepted.next(),
        [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
      };
    },
  };
}

/** Signs as the package does: audience with the port. */
function hycoToken(relay: TestRelay): string {
  return HycoWs.createRelayToken(`http://127.0.0.1:${relay.port}/hyco`, 'root', ROOT_KEY);
}

export const hycoWsSender: Sender = {
  name: 'hyco-ws',
  connect: async (relay, protocols = []) => {
    const socket = new HycoWs(`${relay.wsUrl}/$hc/hyco?sb-hc-action=connect`, protocols, {
      headers: { ServiceBusAuthorization: hycoToken(relay) },
    });
    const side = hycoSide(socket);
    await within('the sender', once(socket, 'open'));
    return side;
  },
};

export const wsSender: Sender = {
  name: 'ws',
  connect: async (relay, protocols = []) => {
    const socket = new WebSocket(`${relay.wsUrl}/$hc/hyco?sb-hc-action=connect`, [...protocols], {
      headers: { ServiceBusAuthorization: relay.token() },
    });
    const inbox = new Inbox<string | Buffer>('a message');
    socket.on('message', (data: Buffer, isBinary) => {
      inbox.put(isBinary ? data : data.toString('utf8'));
    });
    const closed = libraryCloses(socket);
    await within('the sender', once(socket, 'open'));
    return {
      protocol: socket.protocol,
      send: data => socket.send(data),
      next: patienceMs => inbox.next(patienceMs),
      close: (code, reason) => socket.close(code, reason),
      break: () => socket.terminate(),
      closed,
    };
  },
};

export const hycoWsListener: ListenerMaker = {
  name: 'hyco-ws',
  listen: async relay => {
    const accepted = new Inbox<Side>('a connection');
    const server = HycoWs.createRelayedServer(
      { server: `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`, token: () => hycoToken(relay) },
      socket => accepted.put(hycoSide(socket)),
    );
    await within('the listener', once(server, 'listening'));
    return {
      next: () => accepted.next(),
      [Symbol.asyncDispose]: async () => server.close(() => undefined),
    };
  },
};

export interface HttpListenerMaker {
  readonly name: string;
  listen(relay: TestRelay): Promise<AsyncDisposable>;
}

const HYCO_HTTPS = join(import.meta.dirname, '../support/http-hyco-listener.mjs');

export const hycoHttpsListener: HttpListenerMaker = {
  name: 'hyco-https',
  listen: async relay => {
    const url = `${relay.wsUrl}/$hc/hyco?sb-hc-action=listen`;
    const child = fork(HYCO_HTTPS, [url, relay.token()], { execArgv: [] });
    await within('hyco-https listening', once(child, 'message'));
    return {
      [Symbol.asyncDispose]: async () => {
        child.kill('SIGKILL');
        await once(child, 'exit');
      },
    };
  },
};

export function ourHttpListener(transport: Transport): HttpListenerMaker {
  return {
    name: `halfway/client (${transport})`,
    listen: relay => openListener(optionsFor(relay, { transport }), { onRequest: answer }),
  };
}

/** What test/support/http-hyco-listener.mjs answers, too. */
async function answer(request: RelayedRequest): Promise<Answer> {
  const { pathname, searchParams } = new URL(request.target, 'http://h');
  const { method, target: url } = request;
  switch (pathname.slice(pathname.lastIndexOf('/') + 1)) {
    case 'echo':
      return {
        status: 200,
        headers: { 'Content-Type': 'application/x-echo', 'X-Method': method, 'X-Number': '7' },
        body: request.body,
      };
    case 'describe': {
      let bytes = 0;
      for await (const chunk of request.body) bytes += Buffer.from(chunk).length;
      const headers = Object.fromEntries(
        Object.entries(request.headers).map(([name, value]) => [name.toLowerCase(), value]),
      );
      return { status: 200, body: JSON.stringify({ method, url, headers, bytes }) };
    }
    case 'status':
      return { status: Number(searchParams.get('code')), headers: { ETag: '"1"' } };
    case 'large': {
      const body = Buffer.alloc(Number(searchParams.get('size')), 'x');
      return { status: 200, headers: { 'Content-Type': 'application/x-large' }, body };
    }
    case 'stream':
      return { status: 200, headers: { 'Content-Type': 'text/event-stream' }, body: events() };
    default:
      return {
        status: 404,
        reason: 'No such thing',
        headers: { 'X-Why': 'unknown' },
        body: 'nothing here',
      };
  }
}

async function* events(): AsyncGenerator<string> {
  for (let sent = 0; sent < 5; sent += 1) {
    yield `data: ${sent}\n\n`;
    await new Promise(resolve => void setTimeout(resolve, 20));
  }
}
