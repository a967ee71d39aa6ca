import { unreachable } from './base/assert.ts';
import type { LinkState } from './cluster/link-state.ts';
import type { NodeRecord } from './cluster/listener-directory.ts';
import type { LinkStatus } from './cluster/mesh-options.ts';
import type { OpenCluster } from './cluster/open-cluster.ts';
import { entityKey } from './protocol/request-path.ts';
import type { NamespaceTable } from './relay/namespaces.ts';
import type { ClusterNode, ClusterStatus, StatusRow } from './transports/status-report.ts';

/** One row for each hybrid connection, with what this node holds of it. */
export function statusRows(namespaces: NamespaceTable): readonly StatusRow[] {
  return namespaces.all.flatMap(namespace =>
    [...namespace.hybridConnections].map(entity => ({
      namespace: namespace.name,
      name: entity.name,
      listeners: entity.listeners.length,
      pairs: entity.joinedPairs,
      requests: entity.requests.size,
      bytesToListener: entity.traffic[0] ?? 0,
      bytesToSender: entity.traffic[1] ?? 0,
    })),
  );
}

/** The cluster as this node sees it. */
export function clusterStatus(
  { directory, mesh }: OpenCluster,
  namespaces: NamespaceTable,
  coordinator: ClusterStatus['coordinator'],
): ClusterStatus {
  const stats = directory.stats();
  const self = directory.self().node;
  const links = new Map(mesh.links().map(link => [link.nodeId, link]));
  const listeners = listenersByNode(directory, namespaces);
  const nodes = directory.nodes().map((record): ClusterNode => {
    const count = listeners.get(record.node) ?? 0;
    return nodeStatus(record, count, record.node === self ? 'self' : links.get(record.node));
  });
  return {
    coordinator,
    coordinatorUp: stats.isCoordinatorUp,
    degraded: directory.degradedReasons(),
    warnings: directory.warnings(),
    nodes: nodes.toSorted((a, b) => (a.node < b.node ? -1 : 1)),
    listenersHere: stats.ownRows,
    listenersElsewhere: stats.remoteRows,
    listenersUnwritten: stats.unwrittenRows,
    feedLagChanges: stats.feedLag,
  };
}

function nodeStatus(
  { node, state, meshAddress, versions }: NodeRecord,
  listeners: number,
  link: LinkStatus | 'self' | undefined,
): ClusterNode {
  const meshVersions = `${versions.min}-${versions.max}`;
  const known = { node, state, meshAddress, meshVersions, listeners };
  if (link === 'self') return { ...known, link };
  if (link === undefined) return { ...known, link: 'apart' };
  const { roundTripMs } = link;
  return {
    ...known,
    link: link.state.phase,
    ...reasonOf(link.state),
    ...(roundTripMs === undefined ? {} : { roundTripMs }),
  };
}

/** How many listeners each node has, as the directory knows; nodes without any are left out. */
export function listenersByNode(
  directory: OpenCluster['directory'],
  namespaces: NamespaceTable,
): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const namespace of namespaces.all) {
    for (const { name } of namespace.hybridConnections) {
      for (const { node } of directory.listenersOf(namespace.name, entityKey(name))) {
        counts.set(node, (counts.get(node) ?? 0) + 1);
      }
    }
  }
  return counts;
}

/** Why a link is not up. */
function reasonOf(state: LinkState): { readonly why?: string } {
  if (state.phase === 'up' || state.phase === 'closed') return {};
  const { why } = state;
  switch (why.type) {
    case 'new':
      return {};
    case 'refused':
      return { why: `refused by ${why.by === 'us' ? 'this node' : 'that node'}: ${why.reason}` };
    case 'ended':
      return { why: `ended: ${why.reason}` };
    default:
      return unreachable(why);
  }
}
