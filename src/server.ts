import ipaddr from 'ipaddr.js';
import { Randomness } from './auth/randomness.ts';
import { TokenVerifier } from './auth/verify-token.ts';
import { systemClock, type Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import { serverMetrics } from './server-metrics.ts';
import { RelayEvents } from './relay/events.ts';
import { NamespaceTable } from './relay/namespaces.ts';
import { Relay } from './relay/relay.ts';
import { openAdminPort } from './transports/admin-port.ts';
import { openDataPlane } from './transports/data-plane.ts';
import { Outbox } from './transports/outbox.ts';
import {
  openPublicPort,
  openPublicUnixSocket,
  type PublicPort,
  type PublicRoutes,
} from './transports/public-port.ts';
import { answerHealth, type Readiness } from './transports/health.ts';
import { statusPage, type StatusReport } from './transports/status-page.ts';
import { startTlsTerminator, type TlsTerminator } from './transports/tls-terminator.ts';
import { VERSION } from './version.ts';

export interface RunningServer {
  readonly port: number;
  readonly adminPort: number;
  readonly tls: boolean;
  /** Gentle: resolves when everybody has moved or finished, or at the deadline. Ends with `stop`. */
  drain(): Promise<void>;
  /** At once: cuts what is open. Safe to call twice. */
  stop(): Promise<void>;
  /** Reads the TLS certificate again. Rejects and keeps the old one when it is bad. */
  reloadCertificates(): Promise<void>;
  status(): StatusReport;
}

/** How long a TLS client may take for its handshake. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often a drain looks whether everybody has gone. */
const DRAIN_CHECK_MS = 100;

/**
 * Builds the parts in the order in which they need one another, and opens the ports last. Rejects
 * with `StartError` when this machine does not let us start.
 */
export async function startServer(
  config: Config,
  deps: { readonly log: Logger; readonly clock?: Clock },
): Promise<RunningServer> {
  const { log, clock = systemClock } = deps;
  const startedAtMs = clock.nowMs();
  const random = new Randomness();
  const namespaces = new NamespaceTable(config.namespaces, clock.wallMs());
  const metrics = serverMetrics(config.entityLabelsMax);
  const dataPlane = await openDataPlane(config, { log, clock, meter: metrics.meter });
  if ('unavailable' in dataPlane) throw new StartError(dataPlane.unavailable);
  const events = new RelayEvents({ clock, random, log, meter: metrics.meter });
  const relay = new Relay({
    namespaces,
    verifier: new TokenVerifier(),
    clock,
    random,
    events,
    dataPlane: dataPlane.joiner,
    limits: config,
    autoCreate: config.autoCreate,
  });

  let drainPhase: 'no' | 'announced' | 'draining' = 'no';
  const readiness = (): Readiness => ({
    ready: drainPhase === 'no',
    reasons: [
      ...(drainPhase === 'no' ? [] : ['draining']),
      ...(dataPlane.degraded === undefined ? [] : [`degraded: ${dataPlane.degraded}`]),
    ],
  });

  let terminator: TlsTerminator | undefined;
  const outbox = new Outbox();
  const incoming = {
    encodedSlashes: config.encodedSlashes,
    publicOrigin: config.publicUrl?.replace(/^http/, 'ws'),
    peers: {
      trustedProxies: config.trustedProxies.map(range => ipaddr.parseCIDR(range)),
      remotePort: dataPlane.remotePort,
      terminated: (proxied: ArrayBuffer) => terminator?.lookup(proxied),
    },
  };
  const routes: PublicRoutes = {
    webSocket: {
      relay,
      outbox,
      incoming,
      controlQueueBytesMax: config.controlQueueBytesMax,
      controlMessageBytesMax: config.controlMessageBytesMax,
      wholeMessageBytesMax: dataPlane.wholeMessageBytesMax,
      keepAliveMs: config.keepAliveMs,
      prepare: dataPlane.prepare,
      channelSocket: dataPlane.channelSocket,
    },
    http: {
      relay,
      clock,
      outbox,
      incoming,
      bodyBufferBytesMax: config.bodyBufferBytesMax,
      bodyIdleTimeoutMs: config.requestTimeoutMs,
      disarmTimeout: dataPlane.disarmTimeout,
      reserved: (segment, response, isHead) =>
        answerHealth(segment.slice(1), response, readiness, isHead),
    },
  };

  const status = (): StatusReport => ({
    node: config.nodeId,
    version: VERSION,
    uptimeSeconds: (clock.nowMs() - startedAtMs) / 1000,
    ...readiness(),
    dataPlane: dataPlane.degraded ?? 'native',
    listeners: relay.listenerCount,
    senders: relay.senderCount,
    waitingSenders: relay.waitingSenders,
    hybridConnections: namespaces.all.flatMap(namespace =>
      [...namespace.hybridConnections].map(entity => ({
        namespace: namespace.name,
        name: entity.name,
        listeners: entity.listeners.length,
        pairs: entity.joinedPairs,
        requests: entity.requests.size,
        bytesToListener: entity.traffic[0] ?? 0,
        bytesToSender: entity.traffic[1] ?? 0,
      })),
    ),
  });
  metrics.collectFrom({ namespaces, relay, dataPlane, tls: () => terminator, readiness });

  const publicPort = await openPublic(config, routes, {
    log,
    opened: opened => {
      terminator = opened;
    },
  });
  const adminPort = await openAdminPort({
    host: config.adminHost,
    port: config.adminPort,
    token: config.adminToken,
    readiness,
    metrics: metrics.read,
    status: () => ({ html: statusPage(status()), json: status() }),
    reportBug: bug => log.error({ err: bug }, 'cannot read metrics'),
  });
  if (adminPort === undefined) {
    publicPort.close();
    dataPlane.close();
    throw new StartError(portTaken('admin', config.adminHost, config.adminPort, '--admin-port'));
  }

  let isStopped = false;
  const stop = async (): Promise<void> => {
    if (isStopped) return;
    isStopped = true;
    publicPort.close();
    adminPort.close();
    dataPlane.close();
    return Promise.resolve();
  };
  const wait = (ms: number): Promise<void> => new Promise(done => void clock.after(ms, done));
  const isEmpty = (): boolean => relay.listenerCount === 0 && relay.senderCount === 0;

  return {
    port: publicPort.port,
    adminPort: adminPort.port,
    tls: terminator !== undefined,
    status,
    stop,
    async drain() {
      if (drainPhase !== 'no') return;
      drainPhase = 'announced';
      // Work still comes in until the balancer has noticed; refusing it now would only fail it.
      await wait(config.drainDelayMs);
      drainPhase = 'draining';
      publicPort.stopListening();
      relay.beginDrain();
      relay.moveListeners(config.drainTimeoutMs / 4);
      const deadlineMs = clock.nowMs() + config.drainTimeoutMs;
      while (!isEmpty() && clock.nowMs() < deadlineMs) await wait(DRAIN_CHECK_MS);
      // What is left of answers leaves with the next turns of the loop.
      await wait(DRAIN_CHECK_MS);
      await stop();
    },
    async reloadCertificates() {
      await terminator?.reload();
    },
  };
}

/** Opens the public port: as it is, or TLS in front of a Unix socket. */
async function openPublic(
  config: Config,
  routes: PublicRoutes,
  tls: { readonly log: Logger; readonly opened: (terminator: TlsTerminator) => void },
): Promise<PublicPort> {
  if (config.tlsCert === undefined || config.tlsKey === undefined) {
    const opened = await openPublicPort(routes, config);
    if (opened !== undefined) return opened;
    throw new StartError(portTaken('public', config.host, config.port, '--port'));
  }
  const socket = await openPublicUnixSocket(routes);
  if (socket === undefined) {
    throw new StartError('Cannot open a Unix socket in the temporary folder: set TMPDIR elsewhere');
  }
  try {
    const terminator = await startTlsTerminator({
      host: config.host,
      port: config.port,
      certFile: config.tlsCert,
      keyFile: config.tlsKey,
      socketPath: socket.path,
      connectionsMax: config.sendersMax * 2,
      handshakeTimeoutMs: TLS_HANDSHAKE_TIMEOUT_MS,
      stallTimeoutMs: config.stallTimeoutMs,
      onError: error => tls.log.error({ err: error }, 'tls failed'),
    });
    tls.opened(terminator);
    return {
      port: terminator.port,
      stopListening: () => terminator.stopListening(),
      close: () => {
        terminator.close();
        socket.close();
      },
    };
  } catch (cause) {
    socket.close();
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StartError(`Cannot serve TLS: ${why}`, { cause });
  }
}

function portTaken(which: string, host: string, port: number, flag: string): string {
  return (
    `Cannot open the ${which} port ${host}:${port}: it is in use, or the address is not this machine's. ` +
    `Stop the other program, or choose another port with ${flag} (0 picks a free one)`
  );
}
