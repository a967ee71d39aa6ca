import type {
  ClusterNode,
  ClusterStatus,
  StatusReport,
  StatusRow,
} from '../transports/status-report.ts';

/** What several processes report, added up, as far as it can be. `first` says what cannot. */
export function mergeStatus(
  first: Pick<StatusReport, 'node' | 'version' | 'uptimeSeconds' | 'ready' | 'reasons'>,
  reports: readonly StatusReport[],
): StatusReport {
  const sum = (count: (report: StatusReport) => number): number =>
    reports.reduce((total, report) => total + count(report), 0);
  const planes = new Set(reports.map(({ dataPlane }) => dataPlane));
  const cluster = mergeClusters(reports.flatMap(report => report.cluster ?? []));
  return {
    ...first,
    dataPlane: [...planes].join('; '),
    listeners: sum(({ listeners }) => listeners),
    senders: sum(({ senders }) => senders),
    waitingSenders: sum(({ waitingSenders }) => waitingSenders),
    hybridConnections: mergeRows(reports.flatMap(report => report.hybridConnections)),
    ...(cluster === undefined ? {} : { cluster }),
  };
}

function mergeRows(rows: readonly StatusRow[]): readonly StatusRow[] {
  const merged = new Map<string, StatusRow>();
  for (const row of rows) {
    const key = `${row.namespace}/${row.name}`.toLowerCase();
    const known = merged.get(key);
    merged.set(key, known === undefined ? row : addRows(known, row));
  }
  return [...merged.values()];
}

function addRows(a: StatusRow, b: StatusRow): StatusRow {
  return {
    namespace: a.namespace,
    name: a.name,
    listeners: a.listeners + b.listeners,
    pairs: a.pairs + b.pairs,
    requests: a.requests + b.requests,
    bytesToListener: a.bytesToListener + b.bytesToListener,
    bytesToSender: a.bytesToSender + b.bytesToSender,
  };
}

/** Each node as the workers see it, with the worst of their links to it: `self` of one is a link of the others. */
function mergeClusters(clusters: readonly ClusterStatus[]): ClusterStatus | undefined {
  const [first] = clusters;
  if (first === undefined) return undefined;
  const nodes = new Map<string, ClusterNode>();
  for (const node of clusters.flatMap(cluster => cluster.nodes)) {
    const known = nodes.get(node.node);
    nodes.set(node.node, known === undefined ? node : worse(known, node));
  }
  const here = clusters.reduce((sum, { listenersHere }) => sum + listenersHere, 0);
  const all = Math.max(...clusters.map(each => each.listenersHere + each.listenersElsewhere));
  return {
    coordinator: first.coordinator,
    coordinatorUp: clusters.every(({ coordinatorUp }) => coordinatorUp),
    degraded: [...new Set(clusters.flatMap(({ degraded }) => degraded))],
    warnings: [...new Set(clusters.flatMap(({ warnings }) => warnings))],
    nodes: [...nodes.values()].toSorted((a, b) => (a.node < b.node ? -1 : 1)),
    listenersHere: here,
    listenersElsewhere: Math.max(0, all - here),
    listenersUnwritten: clusters.reduce((sum, each) => sum + each.listenersUnwritten, 0),
    feedLagChanges: Math.max(...clusters.map(({ feedLagChanges }) => feedLagChanges)),
  };
}

const FROM_BEST: readonly ClusterNode['link'][] = ['self', 'up', 'dialling', 'apart', 'closed'];

function worse(a: ClusterNode, b: ClusterNode): ClusterNode {
  const byLink = FROM_BEST.indexOf(a.link) - FROM_BEST.indexOf(b.link);
  if (byLink !== 0) return byLink > 0 ? a : b;
  return (a.roundTripMs ?? 0) >= (b.roundTripMs ?? 0) ? a : b;
}
