import type { ClusterNode, StatusReport } from './status-report.ts';

export type { StatusReport };

/** Rows shown; `/status` as JSON has them all. */
const ROWS_MAX = 500;

const STYLE =
  'body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}' +
  'table{border-collapse:collapse}th,td{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}' +
  'th:first-child,td:first-child{text-align:left}.bad{color:#c00}';

/** The status as HTML, readable without scripts. */
export function statusPage(report: StatusReport): string {
  const rows = report.hybridConnections
    .slice(0, ROWS_MAX)
    .map(row =>
      tableRow('td', [
        `${row.namespace}/${row.name}`,
        row.listeners,
        row.pairs,
        row.requests,
        row.bytesToListener,
        row.bytesToSender,
      ]),
    );
  const more = report.hybridConnections.length - rows.length;
  const state = report.ready
    ? 'ready'
    : `<span class="bad">not ready: ${escapeHtml(report.reasons.join(', '))}</span>`;
  return (
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">` +
    `<title>Halfway ${escapeHtml(report.node)}</title><style>${STYLE}</style>` +
    `<h1>Halfway node ${escapeHtml(report.node)}</h1>` +
    `<p>Version ${escapeHtml(report.version)}, up ${Math.floor(report.uptimeSeconds)} s, ${state}. ` +
    `Data plane: ${escapeHtml(report.dataPlane)}. ` +
    `${report.listeners} listeners, ${report.senders} senders (${report.waitingSenders} waiting).</p>` +
    `<table>${tableRow('th', ['Hybrid connection', 'Listeners', 'Pairs', 'Requests', 'Bytes to listeners', 'Bytes to senders'])}` +
    `${rows.join('')}</table>${more > 0 ? `<p>… and ${more} more</p>` : ''}` +
    `${clusterPart(report.cluster)}${workersPart(report.workers)}</html>`
  );
}

function clusterPart(cluster: StatusReport['cluster']): string {
  if (cluster === undefined) return '';
  const where = cluster.coordinator === 'redis' ? 'Redis' : 'the parent process';
  const problems = [
    ...(cluster.coordinatorUp ? [] : [`${where} is away`]),
    ...cluster.degraded,
    ...cluster.warnings,
  ].map(text => `<li class="bad">${escapeHtml(text)}</li>`);
  const rows = cluster.nodes.map(node =>
    tableRow('td', [
      node.node,
      node.state,
      node.meshAddress,
      linkText(node),
      node.roundTripMs === undefined ? '' : `${node.roundTripMs.toFixed(1)} ms`,
      node.listeners,
    ]),
  );
  return (
    `<h2>Cluster</h2><p>Directory kept by ${where}: ${cluster.listenersHere} listeners here, ` +
    `${cluster.listenersElsewhere} elsewhere, ${cluster.listenersUnwritten} not written yet; ` +
    `${cluster.feedLagChanges} changes behind.</p>` +
    (problems.length === 0 ? '' : `<ul>${problems.join('')}</ul>`) +
    `<table>${tableRow('th', ['Node', 'State', 'Mesh address', 'Link', 'Round trip', 'Listeners'])}${rows.join('')}</table>`
  );
}

/** The state of a link, and why it is not up. */
export function linkText({ link, why }: ClusterNode): string {
  return why === undefined ? link : `${link} (${why})`;
}

function workersPart(workers: StatusReport['workers']): string {
  if (workers === undefined) return '';
  const rows = workers.map(worker =>
    tableRow('td', [
      worker.node,
      worker.pid ?? '',
      worker.ready ? worker.state : `${worker.state}, not ready`,
      worker.restarts,
      worker.listeners ?? '',
      worker.senders ?? '',
    ]),
  );
  return `<h2>Workers</h2><table>${tableRow('th', ['Worker', 'Process', 'State', 'Restarts', 'Listeners', 'Senders'])}${rows.join('')}</table>`;
}

function tableRow(cell: 'td' | 'th', values: readonly (string | number)[]): string {
  return `<tr>${values.map(value => `<${cell}>${escapeHtml(String(value))}</${cell}>`).join('')}</tr>`;
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
