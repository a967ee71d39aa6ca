import type { Config } from './config/options.ts';
import type { Hops } from './cluster/hops.ts';
import { DIRECTORY_METRICS } from './cluster/metrics.ts';
import { MESH_METRICS } from './cluster/mesh-metrics.ts';
import type { OpenCluster } from './cluster/open-cluster.ts';
import { createMetrics, type Metrics, type MetricSnapshot } from './observability/metrics.ts';
import { RELAY_METRICS } from './relay/metrics.ts';
import { DEGRADED_REASONS } from './cluster/listener-directory.ts';
import type { NamespaceTable } from './relay/namespaces.ts';
import type { Meter } from './relay/ports.ts';
import type { Relay } from './relay/relay.ts';
import type { OpenDataPlane } from './transports/data-plane.ts';
import type { Readiness } from './transports/health.ts';
import { TRANSPORT_METRICS } from './transports/metrics.ts';
import { POLL_METRICS, SESSION_ROLES } from './transports/poll/poll-metrics.ts';
import type { PollSessions } from './transports/poll/poll-sessions.ts';
import type { TlsTerminator } from './transports/tls-terminator.ts';
import {
  collectDispatch,
  DISPATCH_METRICS,
  type DispatchGauges,
} from './server-dispatch-metrics.ts';
import { UWS_VERSION, VERSION } from './version.ts';

/** What is looked at when metrics are read: plain fields that the data path counts in. */
export interface MetricSources {
  readonly cluster: OpenCluster | undefined;
  readonly hops: Hops;
  readonly dispatch: { gauges(): DispatchGauges } | undefined;
  readonly namespaces: NamespaceTable;
  readonly relay: Relay;
  readonly sessions: PollSessions;
  readonly dataPlane: OpenDataPlane;
  readonly tls: () => TlsTerminator | undefined;
  readonly readiness: () => Readiness;
}

export interface ServerMetrics {
  readonly meter: Meter;
  collectFrom(sources: MetricSources): void;
  readonly read: () => Promise<{ readonly text: string; readonly contentType: string }>;
  readonly snapshot: () => Promise<MetricSnapshot>;
}

/** `<environment>/m/<machine>`. */
const MACHINE_NAME = /^([a-z0-9-]{1,63})\/m\/[^/]+$/i;

const HOP_METRICS = [
  {
    name: 'halfway_mesh_hops_total',
    kind: 'counter',
    help: 'Rendezvous that a listener dialled here and whose sender is on another node',
    values: [{}],
  },
  {
    name: 'halfway_mesh_forwarded_bytes_total',
    kind: 'counter',
    help: 'Payload bytes of such rendezvous that crossed this node',
    labels: ['direction'],
    values: ['to_listener', 'to_sender'].map(direction => ({ direction })),
  },
  {
    name: 'halfway_mesh_foreign_offers',
    kind: 'gauge',
    help: 'Senders of other nodes that listeners here have not settled',
  },
] as const;

const SERVER_METRICS = [
  { name: 'halfway_ready', kind: 'gauge', help: '1 while work should be sent to this node' },
  {
    name: 'halfway_build_info',
    kind: 'gauge',
    help: 'Always 1; the labels say what runs',
    labels: ['version', 'node_version', 'uws_version'],
  },
] as const;

/** Joins the parts' metric lists with prom-client; `entityLabelsMax` caps the hybrid_connection label. */
export function serverMetrics({
  entityLabelsMax,
  dispatch,
}: Pick<Config, 'entityLabelsMax' | 'dispatch'>): ServerMetrics {
  const metrics = createMetrics(
    [
      RELAY_METRICS,
      TRANSPORT_METRICS,
      POLL_METRICS,
      SERVER_METRICS,
      DIRECTORY_METRICS,
      MESH_METRICS,
      HOP_METRICS,
      dispatch ? DISPATCH_METRICS : [],
    ],
    {
      defaultMetrics: true,
    },
  );
  const capLabel = metrics.cappedLabel(entityLabelsMax);
  // Machines are many, and each has a hybrid connection: those of an environment are one.
  const entityLabel = (name: string): string =>
    capLabel.of(dispatch ? name.replace(MACHINE_NAME, '$1/m/*') : name);
  metrics.gauge('halfway_build_info').set(1, {
    version: VERSION,
    node_version: process.versions.node,
    uws_version: UWS_VERSION,
  });

  const capped = (labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> => {
    const entity = labels['hybrid_connection'];
    // What was refused before a hybrid connection was known has an empty label, which takes no place.
    return entity === undefined || entity === ''
      ? labels
      : { ...labels, hybrid_connection: entityLabel(entity) };
  };
  return {
    meter: {
      count: (name, labels) => metrics.counter(name).inc(capped(labels)),
      observe: (name, value, labels) => metrics.histogram(name).observe(value, capped(labels)),
    },
    collectFrom: sources =>
      metrics.onCollect(() => {
        collectEntities(sources);
        collectProcess(sources);
        collectPolls(metrics, sources.sessions);
        if (sources.dispatch !== undefined) collectDispatch(metrics, sources.dispatch.gauges());
        if (sources.cluster !== undefined) collectCluster(metrics, sources.cluster, sources.hops);
      }),
    read: async () => ({ text: await metrics.text(), contentType: metrics.contentType }),
    snapshot: () => metrics.snapshot(),
  };

  function collectEntities({ namespaces }: MetricSources): void {
    // Summed by label first: several hybrid connections may share the last one.
    const sums = new Map<string, EntitySums>();
    let count = 0;
    for (const namespace of namespaces.all) {
      for (const entity of namespace.hybridConnections) {
        count += 1;
        const label = entityLabel(entity.name);
        const sum = sums.get(label) ?? {
          listeners: 0,
          pairs: 0,
          requests: 0,
          traffic: [0, 0, 0, 0],
        };
        sum.listeners += entity.listeners.length;
        sum.pairs += entity.joinedPairs;
        sum.requests += entity.requests.size;
        sum.traffic = sum.traffic.map((total, i) => total + (entity.traffic[i] ?? 0));
        sums.set(label, sum);
      }
    }
    metrics.gauge('halfway_hybrid_connections').set(count);
    for (const [hybrid_connection, { listeners, pairs, requests, traffic }] of sums) {
      metrics.gauge('halfway_active_listeners').set(listeners, { hybrid_connection });
      const active = metrics.gauge('halfway_active_connections');
      active.set(pairs, { hybrid_connection, kind: 'websocket' });
      active.set(requests, { hybrid_connection, kind: 'http' });
      const bytes = metrics.counter('halfway_transferred_bytes_total');
      const frames = metrics.counter('halfway_transferred_frames_total');
      for (const [i, direction] of DIRECTIONS.entries()) {
        bytes.setTotal(traffic[i] ?? 0, { hybrid_connection, direction });
        frames.setTotal(traffic[i + 2] ?? 0, { hybrid_connection, direction });
      }
    }
  }

  function collectProcess({ relay, dataPlane, tls, readiness }: MetricSources): void {
    metrics.gauge('halfway_ready').set(readiness().ready ? 1 : 0);
    metrics.gauge('halfway_waiting_senders').set(relay.waitingSenders);
    metrics.gauge('halfway_held_senders').set(relay.heldSenders);
    metrics.gauge('halfway_data_plane_native').set(dataPlane.degraded === undefined ? 1 : 0);
    const stats = dataPlane.stats();
    metrics
      .gauge('halfway_backpressure_bytes')
      .set((stats?.queuedBytes ?? 0) + (stats?.heldBytes ?? 0));
    metrics.gauge('halfway_paused_sockets').set(stats?.pausedLegs ?? 0);
    metrics.counter('halfway_pauses_total').setTotal(stats?.pausesTotal ?? 0);
    const terminator = tls();
    metrics.gauge('halfway_tls_connections').set(terminator?.connections ?? 0);
    const failures = metrics.counter('halfway_tls_failures_total');
    failures.setTotal(terminator?.stats.refused ?? 0, { cause: 'refused' });
    failures.setTotal(terminator?.stats.handshakeFailures ?? 0, { cause: 'handshake' });
    failures.setTotal(terminator?.stats.relayFailures ?? 0, { cause: 'relay' });
    failures.setTotal(terminator?.stats.stalled ?? 0, { cause: 'stalled' });
  }
}

/** Copies what long-poll sessions count in plain fields. */
function collectPolls(metrics: Metrics, sessions: PollSessions): void {
  const { counters } = sessions;
  const total = (name: string, value: number, labels = {}): void =>
    metrics.counter(name).setTotal(value, labels);
  for (const role of SESSION_ROLES) {
    metrics.gauge('halfway_poll_sessions').set(sessions.count(role), { role });
    total('halfway_poll_sessions_opened_total', counters.opened[role], { role });
  }
  for (const [reason, count] of Object.entries(counters.ended)) {
    total('halfway_poll_sessions_ended_total', count, { reason });
  }
  total('halfway_poll_polls_total', counters.polls);
  total('halfway_poll_posts_total', counters.posts);
  total('halfway_poll_resumed_total', counters.resumed);
  total('halfway_poll_replayed_frames_total', counters.replayedFrames);
  total('halfway_poll_replayed_bytes_total', counters.replayedBytes);
  metrics.gauge('halfway_poll_held_polls').set(sessions.heldPolls);
  metrics.gauge('halfway_poll_queued_bytes').set(sessions.queuedBytes);
}

/** Copies what directory and mesh count in plain fields. */
function collectCluster(
  metrics: Metrics,
  { directory, mesh, node }: OpenCluster,
  hops: Hops,
): void {
  const gauge = (name: string, value: number, labels = {}): void =>
    metrics.gauge(name).set(value, labels);
  const total = (name: string, value: number, labels = {}): void =>
    metrics.counter(name).setTotal(value, labels);

  const stats = directory.stats();
  gauge('halfway_redis_up', stats.isCoordinatorUp ? 1 : 0);
  const reasons = directory.degradedReasons();
  for (const reason of DEGRADED_REASONS) {
    gauge('halfway_cluster_degraded', reasons.includes(reason) ? 1 : 0, { reason });
  }
  if (stats.leaseAgeMs === undefined) metrics.gauge('halfway_cluster_lease_age_seconds').reset();
  else gauge('halfway_cluster_lease_age_seconds', stats.leaseAgeMs / 1000);
  total('halfway_cluster_leases_lost_total', stats.leasesLost);
  gauge('halfway_cluster_nodes', stats.nodes);
  total('halfway_cluster_nodes_removed_total', stats.nodesRemoved);
  gauge('halfway_cluster_listeners', stats.ownRows, { where: 'here' });
  gauge('halfway_cluster_listeners', stats.remoteRows, { where: 'elsewhere' });
  gauge('halfway_cluster_listeners_unwritten', stats.unwrittenRows);
  gauge('halfway_cluster_feed_lag_changes', stats.feedLag);
  total('halfway_cluster_changes_total', stats.changesApplied);
  for (const [reason, count] of Object.entries(stats.reconciliations)) {
    total('halfway_cluster_reconciliations_total', count, { reason });
  }
  total('halfway_cluster_rows_repaired_total', stats.rowsRepaired);
  total('halfway_cluster_rows_ignored_total', stats.rowsIgnored);
  gauge('halfway_cluster_listeners_announced', stats.announcedRows);
  for (const [reason, count] of Object.entries(stats.announcementsRefused)) {
    total('halfway_cluster_announcements_refused_total', count, { reason });
  }
  total('halfway_cluster_announcements_untold_total', stats.announcementsUntold);
  total('halfway_redis_commands_total', stats.commands);
  total('halfway_redis_command_failures_total', stats.commandFailures);

  const { counters, links, queuedBytes, strangers, openStreams, expectedStreams } = mesh.stats();
  for (const [state, count] of Object.entries(links)) gauge('halfway_mesh_links', count, { state });
  total('halfway_mesh_messages_total', counters.messagesSent, { direction: 'sent' });
  total('halfway_mesh_messages_total', counters.messagesReceived, { direction: 'received' });
  total('halfway_mesh_bytes_total', counters.bytesSent, { direction: 'sent' });
  total('halfway_mesh_bytes_total', counters.bytesReceived, { direction: 'received' });
  total('halfway_mesh_dropped_messages_total', counters.refused, { why: 'refused' });
  total('halfway_mesh_dropped_messages_total', counters.strayAnswers, { why: 'stray-answer' });
  total('halfway_mesh_dropped_messages_total', counters.notUnderstood, { why: 'not-understood' });
  gauge('halfway_mesh_queued_bytes', queuedBytes);
  gauge('halfway_mesh_strangers', strangers);
  gauge('halfway_mesh_streams', openStreams, { state: 'open' });
  gauge('halfway_mesh_streams', expectedStreams, { state: 'expected' });
  gauge('halfway_mesh_foreign_offers', node.foreignOffers);
  for (const [i, direction] of DIRECTIONS.entries()) {
    // A hop joins the listener's rendezvous first, so its first direction is the one to the sender.
    total('halfway_mesh_forwarded_bytes_total', hops.traffic[i === 0 ? 1 : 0] ?? 0, { direction });
  }
}

interface EntitySums {
  listeners: number;
  pairs: number;
  requests: number;
  traffic: number[];
}

/** Order of `TrafficCounters`. */
const DIRECTIONS = ['to_listener', 'to_sender'] as const;
