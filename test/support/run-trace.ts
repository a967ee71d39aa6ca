import type { Exchange } from './message-tap.ts';

/** What was said about a run, in a form that is the same each time and however it travelled. Source: row A9. */
export interface TracedMessage {
  /** Who asks. */
  readonly from: Exchange['from'];
  /** Without what names the run: `PUT start`, `POST runs`. */
  readonly what: string;
  /** Parsed from JSON; of logs all text; null: there was none. */
  readonly body: unknown;
  readonly status: number;
  readonly answer: unknown;
}

/** The order in which a run's messages are shown; in each kind they stay in that in which they were sent. */
const KINDS = ['runs', 'start', 'renew', 'progress', 'logs', 'result'];
/** Members that say which run of the job it was, or how the computer was doing, and not what it is. */
const VARYING: ReadonlySet<string> = new Set([
  'accountName',
  'agentVersion',
  'cpuPercent',
  'ct',
  'enc',
  'id',
  'instance',
  'kid',
  'memoryMb',
  'runId',
  'targetId',
  'traceparent',
]);
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

/** All messages about a run: what is left away is what differs from one run to the next, never a message. */
export function traceOfRun(exchanges: readonly Exchange[], runId: string): TracedMessage[] {
  const about = exchanges.filter(({ target }) => target.includes(runId));
  const traced = about.map(exchange => ({ kind: kindOf(exchange, runId), exchange }));
  const single = traced.filter(({ kind }) => kind !== 'logs').map(one => shown(one));
  const logs = traced.filter(({ kind }) => kind === 'logs').map(({ exchange }) => exchange);
  const messages = logs.length === 0 ? single : [...single, joined(logs)];
  const rank = ({ what }: TracedMessage): number => KINDS.indexOf(what.split(' ')[1] ?? '');
  return messages.toSorted((a, b) => rank(a) - rank(b));
}

/** Kinds of a run's messages as they were answered, each named once: who came before whom. */
export function orderOfRun(exchanges: readonly Exchange[], runId: string): readonly string[] {
  const about = exchanges.filter(({ target }) => target.includes(runId));
  return [...new Set(about.map(exchange => kindOf(exchange, runId)))];
}

/** Of `…/runs/<id>` `runs`, of `…/runs/<id>/attempts/1/start?…` `start`. */
function kindOf({ target }: Exchange, runId: string): string {
  const [path = ''] = target.split('?');
  return path.endsWith(runId) ? 'runs' : (path.split('/').at(-1) ?? '');
}

function shown({
  kind,
  exchange,
}: {
  readonly kind: string;
  readonly exchange: Exchange;
}): TracedMessage {
  const { from, method, body, status, answer } = exchange;
  return { from, what: `${method} ${kind}`, body: stable(body), status, answer: stable(answer) };
}

/** In how many chunks a log goes depends on the moment: what counts is that they make one text without a gap. */
function joined(chunks: readonly Exchange[]): TracedMessage {
  const sorted = chunks
    .map(({ target, body }) => ({
      at: Number(new URLSearchParams(target.split('?')[1]).get('offset')),
      body,
    }))
    .toSorted((a, b) => a.at - b.at);
  let text = Buffer.of();
  for (const { at, body } of sorted) {
    if (at > text.length) throw new Error(`The log has a gap before byte ${at}`);
    text = Buffer.concat([text.subarray(0, at), body]);
  }
  const [{ from, method, status, answer } = missing()] = chunks.slice(-1);
  const body = text.toString();
  return { from, what: `${method} logs`, body, status, answer: stable(answer) };
}

function missing(): never {
  throw new Error('There is no log');
}

function stable(bytes: Buffer): unknown {
  if (bytes.length === 0) return null;
  const parsed: unknown = JSON.parse(bytes.toString());
  return withoutVarying(parsed);
}

function withoutVarying(value: unknown, name = ''): unknown {
  if (Array.isArray(value)) return value.map(one => withoutVarying(one));
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([key, of]) => [key, withoutVarying(of, key)]));
  }
  if (VARYING.has(name)) return `<${name}>`;
  return typeof value === 'string' && MOMENT.test(value) ? '<moment>' : value;
}
