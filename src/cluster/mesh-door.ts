import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import type { CancelTimer, Clock } from '../base/clock.ts';
import type { MeshRecord } from '../protocol/mesh-frames.ts';
import type { MeshKeys } from './mesh-credentials.ts';
import { localPath } from './mesh-local.ts';
import type { MeshRefusal } from './mesh-refusals.ts';
import { RecordSocket, type HandshakeEnd } from './record-socket.ts';

export interface DoorLimits {
  /** A stranger that is not a link or a stream by then is refused. */
  readonly handshakeTimeoutMs: number;
  /** Connections that are neither link nor stream yet; one more pushes out the oldest. */
  readonly strangersMax: number;
}

export interface DoorHandlers {
  /** The first record of a connection. Resolves when it is decided; then it is no stranger any more. */
  arrived(records: RecordSocket, first: MeshRecord): Promise<void>;
  /** A connection ended before its first record was understood. */
  refused(end: HandshakeEnd, address: string | undefined): void;
  /** The port cannot accept. */
  failed(error: Error): void;
  bug(bug: unknown): void;
}

interface Stranger {
  readonly socket: Socket;
  readonly cancel: CancelTimer;
  records: RecordSocket | undefined;
}

const KEEP_ALIVE_DELAY_MS = 15_000;
/** What both ends of links and streams are: half-open, for frames have their own ends; never delayed. */
export const SOCKET_OPTIONS = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
} as const;
const BACKLOG = 1_024;

/**
 * The mesh port. Whoever connects is a stranger until its handshake is done; strangers are few, have
 * little time, and cannot keep others out: it is the oldest that goes.
 */
export class MeshDoor {
  readonly #limits: DoorLimits;
  readonly #clock: Clock;
  readonly #handlers: DoorHandlers;
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;
  readonly #local: Server;
  #localArrivals = 0;
  /** By remote address and port, which stay the same when TLS wraps a socket. In order of arrival. */
  readonly #strangers = new Map<string, Stranger>();
  readonly #leaving = new Set<Socket>();

  constructor(
    deps: { readonly clock: Clock; readonly keys: MeshKeys; readonly limits: DoorLimits },
    handlers: DoorHandlers,
  ) {
    this.#limits = deps.limits;
    this.#clock = deps.clock;
    this.#handlers = handlers;
    const { tls } = deps.keys;
    // Half-open, a client that gives up within the TLS handshake would be waited for.
    const allowHalfOpen = tls === undefined;
    this.#server = createServer({ ...SOCKET_OPTIONS, allowHalfOpen }, socket => {
      const key = endpointOf(socket);
      this.#connected(socket, key);
      if (this.#tls === undefined) void this.#meet(socket, key);
      else this.#tls.emit('connection', socket);
    });
    this.#local = createServer({ allowHalfOpen: true }, socket => {
      this.#localArrivals += 1;
      const key = `local ${this.#localArrivals}`;
      this.#connected(socket, key);
      void this.#meet(socket, key);
    });
    if (tls === undefined) return;
    this.#tls = createTlsServer({
      ...tls,
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: deps.limits.handshakeTimeoutMs,
    });
    this.#tls.on('secureConnection', socket => this.#secured(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      this.#handlers.refused(
        { reason: 'tls', by: 'us', detail: error.message },
        socket.remoteAddress,
      );
      socket.destroy();
    });
  }

  /** Rejects when the port cannot be had. Port 0 picks one. */
  async listen(host: string, port: number): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port, backlog: BACKLOG }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#server.on('error', error => this.#handlers.failed(error));
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('No TCP port was bound');
    return address;
  }

  /** Opens the Unix socket beside the port. Rejects when it cannot be had. */
  async listenLocal(name: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#local.once('error', reject);
      this.#local.listen({ path: localPath(name), backlog: BACKLOG }, () => {
        this.#local.off('error', reject);
        resolve();
      });
    });
    this.#local.on('error', error => this.#handlers.failed(error));
  }

  get strangers(): number {
    return this.#strangers.size;
  }

  /** Accepts nothing more and cuts all strangers. Links and streams are not ours any more. */
  close(): void {
    this.#server.close();
    this.#local.close();
    for (const { socket } of this.#strangers.values()) socket.destroy();
    for (const socket of this.#leaving) socket.destroy();
  }

  #connected(socket: Socket, key: string): void {
    socket.on('error', () => socket.destroy());
    const cancel = this.#clock.after(this.#limits.handshakeTimeoutMs, () =>
      this.#dismiss(key, 'handshake-late'),
    );
    this.#strangers.set(key, { socket, cancel, records: undefined });
    socket.once('close', () => this.#forget(key));
    if (this.#strangers.size > this.#limits.strangersMax) {
      const [oldest] = this.#strangers.keys();
      if (oldest !== undefined) this.#dismiss(oldest, 'crowded');
    }
  }

  #secured(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const key = endpointOf(socket);
    if (this.#strangers.has(key)) void this.#meet(socket, key);
    else socket.destroy();
  }

  async #meet(socket: Socket, key: string): Promise<void> {
    const stranger = this.#strangers.get(key);
    if (stranger === undefined) return;
    const records = new RecordSocket(socket, this.#clock);
    stranger.records = records;
    try {
      const first = await records.next();
      if ('reason' in first) this.#handlers.refused(first, socket.remoteAddress);
      else await this.#handlers.arrived(records, first);
    } catch (bug) {
      this.#handlers.bug(bug);
      socket.destroy();
    } finally {
      this.#forget(key);
      if (records.isRefused) this.#letLeave(socket);
    }
  }

  #dismiss(key: string, reason: MeshRefusal): void {
    const stranger = this.#strangers.get(key);
    if (stranger === undefined) return;
    const { records, socket } = stranger;
    this.#forget(key);
    if (records === undefined) {
      this.#handlers.refused({ reason, by: 'us' }, socket.remoteAddress);
      socket.destroy();
    } else records.refuse(reason);
  }

  /** A refused one has a moment to read why; there are never more of them than of strangers. */
  #letLeave(socket: Socket): void {
    if (socket.destroyed) return;
    this.#leaving.add(socket);
    socket.once('close', () => this.#leaving.delete(socket));
    if (this.#leaving.size <= this.#limits.strangersMax) return;
    const [oldest] = this.#leaving;
    if (oldest === undefined) return;
    this.#leaving.delete(oldest);
    oldest.destroy();
  }

  #forget(key: string): void {
    this.#strangers.get(key)?.cancel();
    this.#strangers.delete(key);
  }
}

function endpointOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
}
