import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { Server, TLSSocket } from 'node:tls';
import { systemClock } from '../base/clock.ts';
import type { CancelTimer, Clock } from '../base/clock.ts';
import type { RemoteEndpoint } from '../protocol/control-messages.ts';
import { JoinedSockets } from './joined-sockets.ts';
import { ProxiedEndpoints } from './proxied-endpoints.ts';
import { loadTlsCertificate } from './tls-certificate.ts';

export interface TlsTerminatorOptions {
  readonly host: string;
  /** 0 picks one. */
  readonly port: number;
  /** Who accepts instead, at that port, and hands each connection to `take`. */
  readonly source?: (take: (connection: Socket) => void) => void;
  readonly certFile: string;
  readonly keyFile: string;
  /** The Unix socket on which uWebSockets.js listens; keep it where no other user can reach it. */
  readonly socketPath: string;
  /** One more is accepted and closed at once, before its handshake, and counted as `refused`. */
  readonly connectionsMax: number;
  /** A client that has not finished its handshake by then is cut, and counted as `handshakeFailures`. */
  readonly handshakeTimeoutMs: number;
  /**
   * How long a connection may stand still while something is owed: a client takes none of the bytes
   * waiting for it, or one side has gone and the other does not follow. Then it is cut and counted
   * as `stalled`. A connection that is merely idle is never cut. 0 waits for ever.
   */
  readonly stallTimeoutMs?: number;
  readonly clock?: Clock;
  /** For the operator: the port cannot accept, or the relay behind it cannot be reached. */
  readonly onError?: (error: Error) => void;
}

/** Counted from the start, never reset. */
export interface TlsTerminatorStats {
  readonly accepted: number;
  readonly refused: number;
  /** Timeouts, clients that offer TLS 1.1 or h2 only, port scanners. */
  readonly handshakeFailures: number;
  /** The Unix socket could not be reached. */
  readonly relayFailures: number;
  readonly stalled: number;
}

export interface TlsTerminator {
  readonly port: number;
  /** TCP connections open now, those in their handshake included. */
  readonly connections: number;
  readonly stats: TlsTerminatorStats;
  /** Whom a connection on the Unix socket stands for; undefined: that header was not ours, believe nothing in it. */
  lookup(proxied: ArrayBuffer): RemoteEndpoint | undefined;
  /** Reads the certificate files again, for new connections. Rejects and keeps the old ones when they are bad. */
  reload(): Promise<void>;
  /** Accepts nothing new; open connections live on. Safe to call twice. */
  stopListening(): void;
  /** Stops listening and cuts every connection. Safe to call twice. */
  close(): void;
}

const STALL_TIMEOUT_MS = 120_000;
/** A stall is noticed at most this part of its timeout too late. */
const STALL_CHECKS_PER_TIMEOUT = 4;
/** Finds clients that vanished without a word while their connection was idle. */
const KEEP_ALIVE_DELAY_MS = 60_000;

/**
 * All cipher suites of the public port, the server's first choice first: forward secrecy and authenticated encryption
 * only. Those of TLS 1.2 are, by their IANA names, TLS_ECDHE_{ECDSA,RSA}_WITH_AES_{256,128}_GCM_SHA{384,256} and
 * …_CHACHA20_POLY1305_SHA256; which half applies is a matter of the certificate's key.
 */
export const CIPHER_SUITES = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
] as const;
/** The same for each certificate. Source: job-dispatch.md row B12. */
const SECURITY = { minVersion: 'TLSv1.2', ciphers: CIPHER_SUITES.join(':') } as const;

/**
 * TLS in front of the relay: each TLS connection becomes one connection to the relay's Unix socket,
 * which begins with a PROXY v2 header (see `ProxiedEndpoints`). uWebSockets.js has TLS of its own,
 * but loses input under load when its handlers send, and has no half-close.
 *
 * Rejects when the certificate cannot be used or the port cannot be bound. `close` it at the end: a
 * timer runs until then.
 */
export async function startTlsTerminator(options: TlsTerminatorOptions): Promise<TlsTerminator> {
  const server = createServer({
    ...(await loadTlsCertificate(options)),
    ...SECURITY,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: options.handshakeTimeoutMs,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
  });
  server.maxConnections = options.connectionsMax;
  const terminator = new Terminator(server, options);
  if (options.source !== undefined) options.source(connection => terminator.take(connection));
  else await listen(server, options);
  terminator.start();
  return terminator;
}

async function listen(
  server: Server,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

class Terminator implements TlsTerminator {
  readonly stats = { accepted: 0, refused: 0, handshakeFailures: 0, relayFailures: 0, stalled: 0 };
  readonly #server: Server;
  readonly #options: TlsTerminatorOptions;
  readonly #clock: Clock;
  readonly #stallTimeoutMs: number;
  readonly #endpoints = new ProxiedEndpoints();
  /** What was accepted, before and after its handshake; at most `connectionsMax`. */
  readonly #sockets = new Set<Socket>();
  readonly #joined = new Set<JoinedSockets>();
  #cancelCheck: CancelTimer | undefined;
  #port: number;
  #isTaking = true;

  constructor(server: Server, options: TlsTerminatorOptions) {
    this.#server = server;
    this.#options = options;
    this.#port = options.port;
    this.#clock = options.clock ?? systemClock;
    this.#stallTimeoutMs = options.stallTimeoutMs ?? STALL_TIMEOUT_MS;
    server.on('drop', () => {
      this.stats.refused += 1;
    });
    server.on('connection', (socket: Socket) => {
      this.stats.accepted += 1;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('tlsClientError', (_error, client) => {
      this.stats.handshakeFailures += 1;
      client.destroy();
    });
    server.on('secureConnection', client => this.#join(client));
  }

  /** Once the port is bound. */
  start(): void {
    const address = this.#server.address();
    if (address !== null && typeof address === 'object') this.#port = address.port;
    this.#server.on('error', error => this.#options.onError?.(error));
    this.#checkStallsLater();
  }

  /** One that somebody else accepted. */
  take(connection: Socket): void {
    if (!this.#isTaking || this.#sockets.size >= this.#options.connectionsMax) {
      this.stats.refused += 1;
      connection.destroy();
      return;
    }
    connection.allowHalfOpen = true;
    connection.setNoDelay(true);
    connection.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
    this.#server.emit('connection', connection);
  }

  get port(): number {
    return this.#port;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  lookup(proxied: ArrayBuffer): RemoteEndpoint | undefined {
    return this.#endpoints.lookup(proxied);
  }

  async reload(): Promise<void> {
    this.#server.setSecureContext({
      ...(await loadTlsCertificate(this.#options)),
      ...SECURITY,
    });
  }

  stopListening(): void {
    this.#isTaking = false;
    this.#server.close();
  }

  close(): void {
    this.#cancelCheck?.();
    this.#isTaking = false;
    this.#server.close();
    for (const joined of this.#joined) joined.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(client: TLSSocket): void {
    // What was lost shows in the close that follows; without a listener it would end the process.
    client.on('error', () => client.destroy());
    const endpoint = endpointOf(client);
    if (endpoint === undefined) {
      client.destroy();
      return;
    }
    const { key, header } = this.#endpoints.add(endpoint);
    const relay = connect({ path: this.#options.socketPath, allowHalfOpen: true });
    relay.write(header);
    relay.on('error', error => {
      // An error of an established connection is a close like any other.
      if (relay.pending) this.#relayUnreachable(error);
    });
    const joined = new JoinedSockets(client, relay);
    this.#joined.add(joined);
    for (const socket of [client, relay]) {
      socket.once('close', () => {
        if (!client.destroyed || !relay.destroyed) return;
        this.#joined.delete(joined);
        this.#endpoints.forget(key);
      });
    }
  }

  #relayUnreachable(cause: Error): void {
    this.stats.relayFailures += 1;
    this.#options.onError?.(
      new Error(`Cannot reach the relay behind TLS: ${cause.message}`, { cause }),
    );
  }

  #checkStallsLater(): void {
    if (this.#stallTimeoutMs === 0) return;
    this.#cancelCheck = this.#clock.after(this.#stallTimeoutMs / STALL_CHECKS_PER_TIMEOUT, () => {
      const nowMs = this.#clock.nowMs();
      for (const joined of this.#joined) {
        const sinceMs = joined.standingSinceMs(nowMs);
        if (sinceMs === undefined || nowMs - sinceMs < this.#stallTimeoutMs) continue;
        this.stats.stalled += 1;
        this.#joined.delete(joined);
        joined.destroy();
      }
      this.#checkStallsLater();
    });
  }
}

/** Undefined when the client has gone already. A dual-stack port shows IPv4 peers as `::ffff:192.0.2.1`. */
function endpointOf(client: TLSSocket): RemoteEndpoint | undefined {
  const { remoteAddress, remotePort } = client;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return { address: remoteAddress.replace(/^::ffff:(?=\d+\.)/i, ''), port: remotePort };
}
