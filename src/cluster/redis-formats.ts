// What our scripts and Redis answer, as values. Nothing here throws, whatever lies in Redis: what cannot
// be read becomes an empty value or a change of type `unknown`, and shows as a difference of digests.
import type {
  CoordinatorState,
  FeedChange,
  FeedEntry,
  FeedPosition,
  Holder,
  NodeEntry,
  PlacedRow,
  RenewResult,
  RowsPage,
  StoredRecord,
  StoredRow,
} from './coordinator.ts';
import { parseRow } from './records.ts';

/** The texts of an array answer; what is no text becomes ''. */
export function texts(answer: unknown): string[] {
  return list(answer).map(asText);
}

function list(answer: unknown): readonly unknown[] {
  return Array.isArray(answer) ? answer : [];
}

function asText(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

/** [name, value, name, value, …] as pairs. */
function pairs(answer: unknown): (readonly [string, string])[] {
  const flat = texts(answer);
  return flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1] ?? ''] as const] : []));
}

export function formatPosition({ incarnation, seq }: FeedPosition): string {
  return `${incarnation}-${seq}`;
}

function parsePosition(id: string): FeedPosition {
  const [incarnation = '', seq = ''] = id.split('-');
  return { incarnation, seq: Number(seq) };
}

/** `part text`, as rows and records are kept. */
function parseStored(stored: string): StoredRecord {
  const space = stored.indexOf(' ');
  const part = Number(stored.slice(0, space));
  return { part: Number.isSafeInteger(part) ? part : 0, text: stored.slice(space + 1) };
}

/** `node epoch`; undefined when it is none of ours. */
export function parseOwner(text: string): Holder | undefined {
  const [node, epoch, ...rest] = text.split(' ');
  if (node === undefined || epoch === undefined || rest.length > 0) return undefined;
  return { node, epoch };
}

export function formatFeedRows(rows: readonly StoredRow[]): string {
  return JSON.stringify(rows.map(({ key, part, text }) => [key, part, text]));
}

export function formatFeedKeys(keys: readonly string[]): string {
  return JSON.stringify(keys);
}

export function parseRenewal(answer: unknown): RenewResult {
  const [verdict, incarnation, seq, digests, late, garbage] = list(answer);
  if (verdict !== 'renewed') return { type: 'lease-lost' };
  return {
    type: 'renewed',
    position: { incarnation: asText(incarnation), seq: Number(asText(seq)) },
    digests: new Map(pairs(digests).map(([node, digest]) => [node, Number(digest)])),
    late: pairs(late).map(([node, expiresAt]) => ({ node, expiresAt })),
    garbage: parseOwner(texts(garbage)[0] ?? ''),
  };
}

/** Undefined when there is no directory. */
export function parseState(answer: unknown): CoordinatorState | undefined {
  const [incarnation, seq, nodes, digests, leases] = list(answer);
  if (incarnation === undefined) return undefined;
  const digestOf = new Map(pairs(digests));
  const leaseOf = new Map(pairs(leases));
  return {
    position: { incarnation: asText(incarnation), seq: Number(asText(seq)) },
    nodes: pairs(nodes).map(([node, held]): NodeEntry => {
      const space = held.indexOf(' ');
      const expiresAt = leaseOf.get(node);
      return {
        node,
        epoch: held.slice(0, Math.max(space, 0)),
        record: parseStored(held.slice(space + 1)),
        digest: Number(digestOf.get(node) ?? 0),
        lease: expiresAt === undefined ? undefined : { node, expiresAt },
      };
    }),
  };
}

/** A page of HSCAN. */
export function parseRowsPage(answer: unknown): RowsPage {
  const [cursor, fields] = list(answer);
  const next = asText(cursor);
  return { rows: parseRows(fields), next: next === '0' || next === '' ? undefined : next };
}

/** [row key, `part row`, …] of a hash of rows. A row that is not ours has no place: its names are ''. */
export function parseRows(fields: unknown): readonly PlacedRow[] {
  return pairs(fields).map(([key, stored]): PlacedRow => {
    const { part, text } = parseStored(stored);
    const { namespace = '', hybridConnection = '' } = parseRow(key, text) ?? {};
    return { key, part, text, namespace, hybridConnection };
  });
}

/** Entries of XREAD on one stream; none when it waited in vain. */
export function parseFeed(answer: unknown): readonly FeedEntry[] {
  const [stream] = list(answer);
  const [, entries] = list(stream);
  return list(entries).map(entry => {
    const [id, fields] = list(entry);
    const map = new Map(pairs(fields));
    const digest = map.get('digest');
    return {
      position: parsePosition(asText(id)),
      change: parseChange(map),
      digest: digest === undefined ? undefined : Number(digest),
    };
  });
}

function parseChange(fields: ReadonlyMap<string, string>): FeedChange {
  const holder = { node: fields.get('node') ?? '', epoch: fields.get('epoch') ?? '' };
  const data = fields.get('data') ?? '';
  switch (fields.get('type')) {
    case 'node':
      return { ...holder, type: 'node', record: parseStored(data) };
    case 'node-gone':
      return data === 'expired' || data === 'left' || data === 'expelled'
        ? { ...holder, type: 'node-gone', why: data }
        : { ...holder, type: 'unknown' };
    case 'challenge':
      return { ...holder, type: 'challenge' };
    case 'rows': {
      const rows = list(parseJson(data)).map(row => {
        const [key, part, text] = list(row);
        return { key: asText(key), part: Number(part), text: asText(text) };
      });
      return { ...holder, type: 'rows', rows };
    }
    case 'released':
      return { ...holder, type: 'released', keys: texts(parseJson(data)) };
    default:
      return { ...holder, type: 'unknown' };
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Foreign data in the feed: the digests will differ, and the whole is read again.
    return undefined;
  }
}
