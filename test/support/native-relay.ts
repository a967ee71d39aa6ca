import { rmSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { us_listen_socket, WebSocket } from 'uWebSockets.js';
import {
  loadNativePlane,
  NATIVE_PLANE_DEFAULTS,
  type AttachOptions,
  type LegHandle,
  type NativePlane,
  type SpliceEnd,
} from '../../src/transports/native-plane.ts';
import { LISTEN_EXCLUSIVE, uWS } from '../../src/transports/uws.ts';
import { FrameClient, type Address } from './frame-client.ts';
import { until, within } from './within.ts';

/** The plane, or a failure: the tests in test/native/ are about nothing else. */
export function requirePlane(): NativePlane {
  const loaded = loadNativePlane();
  if ('unavailable' in loaded) throw new Error(loaded.unavailable);
  return loaded.plane;
}

/** What is at the far end of a leg: a WebSocket client, or another node. */
export type LegKind = 'websocket' | 'raw';

export interface PairOptions {
  /** Limits of both legs, as far as they are WebSockets; none unless given. */
  readonly limits?: Partial<AttachOptions>;
  /** WebSockets unless given. */
  readonly kinds?: readonly [LegKind, LegKind];
}

/** Two clients, spliced. */
export interface TestPair {
  readonly a: FrameClient;
  readonly b: FrameClient;
  readonly legA: LegHandle;
  readonly legB: LegHandle;
  readonly counters: Float64Array;
  readonly ended: Promise<SpliceEnd>;
}

export interface NativeRelay extends AsyncDisposable {
  readonly plane: NativePlane;
  readonly address: Address;
  /** A client whose leg is parked. */
  park(
    limits?: Partial<AttachOptions>,
    early?: Uint8Array,
  ): Promise<{ client: FrameClient; leg: LegHandle }>;
  /** Another node, and its parked leg: adopted from a socket of Node, with `head` as read before. */
  adopt(head?: Uint8Array): Promise<{ client: FrameClient; leg: LegHandle }>;
  splice(legA: LegHandle, legB: LegHandle): Pick<TestPair, 'counters' | 'ended'>;
  pair(options?: PairOptions): Promise<TestPair>;
  /** The object of uWebSockets.js behind a leg. */
  wsOf(leg: LegHandle): WebSocket<unknown>;
  /** Everything that clients have written until now has been looked at: all share one loop. */
  settled(): Promise<void>;
  /** Resolves when no leg of any relay in this process is left. */
  empty(): Promise<void>;
  /** Resets every client, and waits until their legs are gone: for after each test. */
  cutAll(): Promise<void>;
  stop(): void;
}

interface Visitor {
  readonly limits: Partial<AttachOptions>;
  readonly arrived: (leg: LegHandle, ws: WebSocket<unknown>) => void;
}

let relays = 0;

/**
 * A uWebSockets.js app whose one route serves both attached sockets (`/leg/N`) and sockets that stay with
 * uWebSockets.js (any other path: it echoes), on loopback or on a Unix socket.
 */
export async function startNativeRelay(listenOn: 'tcp' | 'unix' = 'tcp'): Promise<NativeRelay> {
  const plane = requirePlane();
  plane.configure(NATIVE_PLANE_DEFAULTS);
  const visitors = new Map<string, Visitor>();
  const sockets = new Map<LegHandle, WebSocket<unknown>>();
  const clients = new Set<FrameClient>();
  // Kept no longer than they live: tests look at memory.
  const keep = (client: FrameClient): void => {
    clients.add(client);
    void client.ended.then(() => clients.delete(client));
  };
  let visits = 0;
  relays += 1;
  const unixPath = join(tmpdir(), `halfway-native-${process.pid}-${relays}.sock`);

  const app = uWS.App();
  app.ws<{ path: string }>('/*', {
    idleTimeout: 120,
    maxPayloadLength: 1024 * 1024,
    upgrade(response, request, context) {
      if (plane.hook(context) === -1) throw new Error('Cannot hook');
      const key = request.getHeader('sec-websocket-key');
      response.upgrade({ path: request.getUrl() }, key, '', '', context);
    },
    open(ws) {
      const visitor = visitors.get(ws.getUserData().path);
      if (visitor === undefined) return;
      const leg = plane.attach(ws, { frameBytesMax: 0, messageBytesMax: 0, ...visitor.limits });
      visitor.arrived(leg, ws);
    },
    message: (ws, message, isBinary) => void ws.send(message, isBinary),
  });
  let listening: us_listen_socket | undefined;
  const address = await new Promise<Address>((resolve, reject) => {
    const listened = (socket: us_listen_socket | false): void => {
      if (socket === false) return reject(new Error('Cannot listen'));
      listening = socket;
      return resolve(listenOn === 'unix' ? unixPath : uWS.us_socket_local_port(socket));
    };
    if (listenOn === 'unix') app.listen_unix(listened, unixPath);
    else app.listen('127.0.0.1', 0, LISTEN_EXCLUSIVE, listened);
  });

  // The plane knows its loop, and can adopt, from the first handshake on.
  const first = await FrameClient.open(address, '/');
  first.reset();

  const relay: NativeRelay = {
    plane,
    address,
    async park(limits = {}, early: Uint8Array = new Uint8Array(0)) {
      visits += 1;
      const path = `/leg/${visits}`;
      const arrival = new Promise<LegHandle>(resolve => {
        visitors.set(path, {
          limits,
          arrived: (leg, ws) => {
            sockets.set(leg, ws);
            resolve(leg);
          },
        });
      });
      const client = await FrameClient.open(address, path, early);
      const leg = await within('a leg', arrival);
      visitors.delete(path);
      keep(client);
      return { client, leg };
    },
    async adopt(head: Uint8Array = new Uint8Array(0)) {
      const { near, far } = await connection();
      const leg = plane.adopt(descriptorOf(near), { head });
      if (leg === 0) throw new Error('Cannot adopt');
      near.destroy();
      const client = FrameClient.ofStream(far);
      keep(client);
      return { client, leg };
    },
    splice(legA, legB) {
      const counters = new Float64Array(4);
      let isSpliced = false;
      const ended = new Promise<SpliceEnd>(resolve => {
        isSpliced = plane.splice(legA, legB, counters, resolve);
      });
      if (!isSpliced) throw new Error('Cannot splice');
      return { counters, ended };
    },
    async pair({ limits = {}, kinds = ['websocket', 'websocket'] } = {}) {
      const [a, b] = await Promise.all(
        kinds.map(kind => (kind === 'raw' ? relay.adopt() : relay.park(limits))),
      );
      if (a === undefined || b === undefined) throw new Error('Two kinds make a pair');
      const spliced = relay.splice(a.leg, b.leg);
      return { a: a.client, b: b.client, legA: a.leg, legB: b.leg, ...spliced };
    },
    wsOf(leg) {
      const ws = sockets.get(leg);
      if (ws === undefined) throw new Error('No such leg');
      return ws;
    },
    async settled() {
      for (let i = 0; i < 3; i += 1) await new Promise(resolve => void setImmediate(resolve));
    },
    async cutAll() {
      for (const client of clients) client.reset();
      clients.clear();
      await until('no leg left', () => {
        // Sockets that are not read are looked at by the sweep alone.
        plane.sweep();
        return plane.stats().legs === 0;
      });
    },
    empty: () => until('no leg left', () => plane.stats().legs === 0),
    stop() {
      if (listening !== undefined) uWS.us_listen_socket_close(listening);
      listening = undefined;
      app.close();
      rmSync(unixPath, { force: true });
    },
    async [Symbol.asyncDispose]() {
      relay.stop();
      await relay.empty();
    },
  };
  return relay;
}

/** Both ends of a TCP connection in this process; nobody reads the near one. */
export async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const accepted = new Promise<Socket>(resolve => void server.once('connection', resolve));
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('Not on TCP');
  const far = connect({
    port: address.port,
    host: '127.0.0.1',
    allowHalfOpen: true,
    noDelay: true,
  });
  const near = await within('a connection', accepted);
  server.close();
  return { near, far };
}

/** The descriptor of a socket of Node, as the relay finds it. */
export function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null && Reflect.get(handle, 'fd');
  if (typeof fd !== 'number') throw new Error('No descriptor');
  return fd;
}
