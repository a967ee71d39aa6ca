import ipaddr from 'ipaddr.js';
import { Randomness } from './auth/randomness.ts';
import { TokenVerifier } from './auth/verify-token.ts';
import { systemClock, type Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import type { Coordinator } from './cluster/coordinator.ts';
import { Hops } from './cluster/hops.ts';
import { joinCluster, openClusterStore, startRebalancing, untilLinked } from './server-cluster.ts';
import { drainAnswer } from './management/drain-request.ts';
import type { ApiAnswer } from './management/api-answers.ts';
import type { ApiRequest } from './management/api-request.ts';
import type { MetricSnapshot } from './observability/metrics.ts';
import type { OpenDispatch } from './server-dispatch.ts';
import { openManagement } from './server-management.ts';
import { serverMetrics } from './server-metrics.ts';
import { openPollSessions, pollRoutes } from './server-polls.ts';
import { clusterStatus, statusRows } from './server-status.ts';
import type { RelayStore } from './store/relay-store.ts';
import { RelayEvents } from './relay/events.ts';
import { NamespaceTable } from './relay/namespaces.ts';
import { Relay } from './relay/relay.ts';
import { openAdminPort } from './transports/admin-port.ts';
import { openDataPlane } from './transports/data-plane.ts';
import type { HandshakeOptions } from './transports/handshake.ts';
import { Outbox } from './transports/outbox.ts';
import {
  openPublicPort,
  openPublicUnixSocket,
  type PublicPort,
  type PublicRoutes,
} from './transports/public-port.ts';
import { answerHealth, type Readiness } from './transports/health.ts';
import { statusPage } from './transports/status-page.ts';
import type { StatusReport } from './transports/status-report.ts';
import {
  startTlsTerminator,
  type TlsTerminator,
  type TlsTerminatorOptions,
} from './transports/tls-terminator.ts';
import { VERSION } from './version.ts';

export interface RunningServer {
  readonly port: number;
  /** 0 for a worker, which has none. */
  readonly adminPort: number;
  readonly tls: boolean;
  /**
   * Gentle: resolves when everybody has moved or finished, or at the deadline. Ends with `stop`. `closePort`: nothing
   * new is taken from the beginning, because somebody else is to have the port.
   */
  drain(how?: { readonly closePort?: boolean }): Promise<void>;
  /** At once: cuts what is open. Safe to call twice. */
  stop(): Promise<void>;
  /** Reads the TLS certificate again. Rejects and keeps the old one when it is bad. */
  reloadCertificates(): Promise<void>;
  status(): StatusReport;
}

/** One that a parent looks after, too. */
export interface RunningNode extends RunningServer {
  readiness(): Readiness;
  /** For a parent that adds up what its workers count. */
  metrics(): Promise<MetricSnapshot>;
  manage(request: ApiRequest): Promise<ApiAnswer>;
}

/** What a worker has of its parent, in place of opening it itself. It has no admin port, and shares the public one. */
export interface WorkerParts {
  /** Keeps the directory where there is no Redis. */
  readonly coordinator?: Coordinator;
  readonly store?: RelayStore;
  /** TLS connections that the parent accepted. */
  readonly connections?: NonNullable<TlsTerminatorOptions['source']>;
}

export interface ServerDeps {
  readonly log: Logger;
  readonly clock?: Clock;
  /** Somebody asked through the admin port for what SIGTERM does. */
  readonly onDrainRequest?: () => void;
  readonly worker?: WorkerParts;
  /** Of the built web portal, in place of the program's own. */
  readonly portalFolder?: string;
}

/** How long a TLS client may take for its handshake. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
const SHUTTING_DOWN = 'The relay is shutting down; connect again';
/** How long the last open pairs have, at the end of a drain, to answer our Close. */
const CLOSE_TIME_MS = 1_000;
/** How often a drain looks whether everybody has gone. */
const DRAIN_CHECK_MS = 100;

/**
 * Builds the parts in the order in which they need one another, and opens the ports last. Rejects
 * with `StartError` when this machine does not let us start.
 */
export async function startServer(config: Config, deps: ServerDeps): Promise<RunningNode> {
  const { log, clock = systemClock, worker } = deps;
  const startedAtMs = clock.nowMs();
  const random = new Randomness();
  const namespaces = new NamespaceTable(config.namespaces, clock.wallMs());
  const metrics = serverMetrics(config);
  const dataPlane = await openDataPlane(config, { log, clock, meter: metrics.meter });
  if ('unavailable' in dataPlane) throw new StartError(dataPlane.unavailable);
  const store = worker?.store ?? (await openClusterStore(config, clock));
  const management = await openManagement(config, {
    namespaces,
    clock,
    log,
    random,
    ...(store === undefined ? {} : { store }),
  });
  const { meter } = metrics;
  const hops = new Hops(dataPlane.joiner, meter);
  const cluster = await joinCluster(config, {
    clock,
    random,
    log,
    meter,
    dataPlane,
    hops,
    ...(worker?.coordinator === undefined ? {} : { coordinator: worker.coordinator }),
  });
  let dispatch: OpenDispatch | undefined;
  const events = new RelayEvents({
    clock,
    random,
    log,
    meter,
    onListener: (hybridConnection, what) => dispatch?.onListener(hybridConnection, what),
  });
  const relay = new Relay({
    namespaces,
    verifier: new TokenVerifier(),
    clock,
    random,
    events,
    dataPlane: dataPlane.joiner,
    limits: config,
    autoCreate: config.autoCreate,
    ...(config.nodeUrl === undefined ? {} : { nodeOrigin: config.nodeUrl.replace(/^http/, 'ws') }),
    ...(cluster === undefined ? {} : { cluster: cluster.node }),
  });
  if (cluster !== undefined) {
    cluster.node.serve(relay);
    // What listeners elsewhere it has may be known before it is.
    namespaces.onAdded(added => cluster.node.refresh(added));
  }
  if (config.autoCreate) {
    cluster?.directory.observe(event => {
      // A sender may come here before any listener has.
      if (event.type !== 'listener-added') return;
      const { namespace, hybridConnection } = event.row;
      const home = namespaces.named(namespace);
      if (home?.named(hybridConnection) === undefined)
        home?.create(hybridConnection, clock.wallMs());
    });
  }

  if (config.dispatch) {
    // Much code, which a relay without it does not load.
    const { openDispatch } = await import('./server-dispatch.ts');
    const { configuration } = management;
    const { portalFolder } = deps;
    const about = { clock, log, random, meter, namespaces, configuration, relay, portalFolder };
    dispatch = await openDispatch(config, about);
  }

  let drainPhase: 'no' | 'announced' | 'draining' = 'no';
  const readiness = (): Readiness => ({
    ready: drainPhase === 'no',
    reasons: [
      ...(drainPhase === 'no' ? [] : ['draining']),
      ...(dataPlane.degraded === undefined ? [] : [`degraded: ${dataPlane.degraded}`]),
      ...management.degradedReasons().map(reason => `degraded: ${reason}`),
      ...(cluster?.degradedReasons() ?? []).map(reason => `degraded: ${reason}`),
      ...(dispatch?.degradedReasons() ?? []).map(reason => `degraded: ${reason}`),
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
    portal: dispatch?.portalGuard,
  };
  const dialElsewhere: HandshakeOptions['dialElsewhere'] = (request, action) =>
    cluster?.node.dialElsewhere(request, action);
  const reportBug = (bug: unknown): void => log.error({ err: bug }, 'bug');
  const sessions = openPollSessions(config, {
    clock,
    outbox,
    secretHex: () => random.secretHex(),
    nodeTag: cluster?.node.nodeTag ?? '',
  });
  cluster?.polls.serve(sessions);
  const poll = pollRoutes(config, {
    relay,
    clock,
    outbox,
    sessions,
    elsewhere: cluster?.polls,
    dialElsewhere,
    reportBug,
    disarmTimeout: dataPlane.disarmTimeout,
  });
  const routes: PublicRoutes = {
    pollSocket: { ...poll, incoming, keepAliveMs: config.keepAliveMs },
    webSocket: {
      relay,
      outbox,
      incoming,
      controlQueueBytesMax: config.controlQueueBytesMax,
      controlMessageBytesMax: config.controlMessageBytesMax,
      wholeMessageBytesMax: dataPlane.wholeMessageBytesMax,
      keepAliveMs: config.keepAliveMs,
      dialElsewhere,
      reportBug,
      prepare: dataPlane.prepare,
      channelSocket: dataPlane.channelSocket,
      gathering: dataPlane.gathering,
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
      poll,
    },
    mount: app =>
      dispatch?.mount(app, {
        outbox,
        peers: incoming.peers,
        disarmTimeout: dataPlane.disarmTimeout,
        reportBug,
      }),
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
    hybridConnections: statusRows(namespaces),
    ...(cluster === undefined
      ? {}
      : {
          cluster: clusterStatus(
            cluster,
            namespaces,
            worker?.coordinator === undefined ? 'redis' : 'parent',
          ),
        }),
  });
  metrics.collectFrom({
    cluster,
    hops,
    dispatch,
    namespaces,
    relay,
    sessions,
    dataPlane,
    tls: () => terminator,
    readiness,
  });

  if (cluster !== undefined) await untilLinked(cluster, clock);
  const publicPort = await openPublic(config, routes, {
    log,
    worker,
    opened: opened => {
      terminator = opened;
    },
  });
  const manage = async (request: ApiRequest): Promise<ApiAnswer> =>
    drainAnswer(request, config, deps.onDrainRequest) ??
    management.api(publicPort.port).handle(request);
  const adminPort =
    worker === undefined
      ? await openAdminPort({
          host: config.adminHost,
          port: config.adminPort,
          token: config.adminToken,
          readiness,
          metrics: metrics.read,
          status: async () => ({ html: statusPage(status()), json: status() }),
          manage,
          reportBug: bug => log.error({ err: bug }, 'admin port failed'),
        })
      : { port: 0, close: () => {} };
  if (adminPort === undefined) {
    publicPort.close();
    dataPlane.close();
    await dispatch?.close();
    management.close();
    throw adminPortTaken(config);
  }
  await dispatch?.start(publicPort.port);

  const stopRebalancing =
    cluster === undefined
      ? undefined
      : startRebalancing(config, cluster, { clock, random, log, meter, relay, namespaces });

  let isStopped = false;
  const stop = async (): Promise<void> => {
    if (isStopped) return;
    isStopped = true;
    stopRebalancing?.();
    await dispatch?.close();
    await cluster?.close();
    sessions.close();
    publicPort.close();
    adminPort.close();
    management.close();
    dataPlane.close();
  };
  const wait = (ms: number): Promise<void> => new Promise(done => void clock.after(ms, done));
  const isEmpty = (): boolean => relay.listenerCount + relay.senderCount + hops.count === 0;

  return {
    port: publicPort.port,
    adminPort: adminPort.port,
    tls: terminator !== undefined,
    status,
    stop,
    readiness,
    metrics: metrics.snapshot,
    manage,
    async drain({ closePort = false } = {}) {
      if (drainPhase !== 'no') return;
      drainPhase = 'announced';
      dispatch?.drain();
      if (closePort || config.drainPort === 'closed') publicPort.stopListening();
      if (cluster !== undefined) await cluster.directory.setState('draining');
      // Work still comes in until the balancer has noticed; refusing it now would only fail it.
      await wait(config.drainDelayMs);
      drainPhase = 'draining';
      // The port stays open meanwhile: addresses that were given out are still dialled.
      relay.beginDrain();
      relay.moveListeners(config.drainTimeoutMs / 4);
      const deadlineMs = clock.nowMs() + config.drainTimeoutMs;
      while (!isEmpty() && clock.nowMs() < deadlineMs) await wait(DRAIN_CHECK_MS);
      publicPort.stopListening();
      relay.closePairs(1001, SHUTTING_DOWN);
      hops.closeAll(1001, SHUTTING_DOWN);
      const closedMs = clock.nowMs() + CLOSE_TIME_MS;
      while ((!isEmpty() || sessions.closingCount > 0) && clock.nowMs() < closedMs) {
        await wait(DRAIN_CHECK_MS);
      }
      dispatch?.release();
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
  tls: {
    readonly log: Logger;
    readonly worker: WorkerParts | undefined;
    readonly opened: (terminator: TlsTerminator) => void;
  },
): Promise<PublicPort> {
  const { worker } = tls;
  if (config.tlsCert === undefined || config.tlsKey === undefined) {
    const opened = await openPublicPort(routes, config, { isShared: worker !== undefined });
    if (opened !== undefined) return opened;
    throw publicPortTaken(config);
  }
  const socket = await openPublicUnixSocket(routes);
  if (socket === undefined) {
    throw new StartError('Cannot open a Unix socket in the temporary folder: set TMPDIR elsewhere');
  }
  try {
    const terminator = await startTlsTerminator({
      host: config.host,
      port: config.port,
      ...(worker?.connections === undefined ? {} : { source: worker.connections }),
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

export function publicPortTaken({ host, port }: Config): StartError {
  return new StartError(portTaken('public', host, port, '--port'));
}

export function adminPortTaken({ adminHost, adminPort }: Config): StartError {
  return new StartError(portTaken('admin', adminHost, adminPort, '--admin-port'));
}

function portTaken(which: string, host: string, port: number, flag: string): string {
  return (
    `Cannot open the ${which} port ${host}:${port}: it is in use, or the address is not this machine's. ` +
    `Stop the other program, or choose another port with ${flag} (0 picks a free one)`
  );
}
