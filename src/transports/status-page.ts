/** What the status page and `/status` as JSON show. */
export interface StatusReport {
  readonly node: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly dataPlane: string;
  readonly listeners: number;
  readonly senders: number;
  readonly waitingSenders: number;
  readonly hybridConnections: readonly {
    readonly namespace: string;
    readonly name: string;
    readonly listeners: number;
    readonly pairs: number;
    readonly requests: number;
    readonly bytesToListener: number;
    readonly bytesToSender: number;
  }[];
}

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
    `${rows.join('')}</table>${more > 0 ? `<p>… and ${more} more</p>` : ''}</html>`
  );
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
