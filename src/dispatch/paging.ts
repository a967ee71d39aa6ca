import { Problem } from './problem.ts';
import type { Kind, Repository, Versioned } from './repository.ts';
import type { IndexEntry } from '../store/dispatch-store.ts';

export const PAGE_MAX = 200;
export const PAGE_DEFAULT = 50;
/** Entries that are looked at for one page when most of them are left out. */
const LOOKED_AT_MAX = 1_000;

export interface PageQuery {
  readonly limit?: number | undefined;
  /** `next` of the page before. */
  readonly after?: string | undefined;
}

export interface Page<Value> {
  readonly items: readonly Versioned<Value>[];
  /** Undefined: this was the last one. A page may be short, even empty, and still have a next one. */
  readonly next: string | undefined;
}

/** Records in the order of an index, those that `isWanted`. Throws `RequestMalformed` for a bad query. */
export async function pageOf<Value>(
  repository: Repository,
  from: { readonly kind: Kind<Value>; readonly index: string; readonly isDescending?: boolean },
  { limit = PAGE_DEFAULT, after }: PageQuery,
  isWanted: (value: Value) => boolean = () => true,
): Promise<Page<Value>> {
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > PAGE_MAX) {
    throw malformed('limit', `must be a whole number from 1 to ${PAGE_MAX}`);
  }
  let cursor = after === undefined ? undefined : parseCursor(after);
  const items: Versioned<Value>[] = [];
  for (let lookedAt = 0; lookedAt < LOOKED_AT_MAX && items.length < limit;) {
    const entries = await repository.range(from.index, {
      limit: PAGE_MAX,
      isDescending: from.isDescending ?? false,
      ...(cursor === undefined ? {} : { after: cursor }),
    });
    const records = await repository.getMany(
      from.kind,
      entries.map(({ member }) => member),
    );
    const byId = new Map(records.map(record => [record.id, record]));
    for (const entry of entries) {
      if (items.length === limit) return { items, next: formatCursor(cursor) };
      cursor = entry;
      const record = byId.get(entry.member);
      if (record !== undefined && isWanted(record.value)) items.push(record);
    }
    if (entries.length < PAGE_MAX) return { items, next: undefined };
    lookedAt += entries.length;
  }
  return { items, next: formatCursor(cursor) };
}

function formatCursor(entry: IndexEntry | undefined): string | undefined {
  if (entry === undefined) return undefined;
  return Buffer.from(`${entry.score} ${entry.member}`).toString('base64url');
}

function parseCursor(text: string): IndexEntry {
  const [, score, member] =
    /^(-?[0-9.e+]{1,32}) ([ -~]{1,512})$/.exec(Buffer.from(text, 'base64url').toString()) ?? [];
  const number = Number(score);
  if (member === undefined || !Number.isFinite(number)) throw malformed('after', 'is not a cursor');
  return { score: number, member };
}

function malformed(path: string, message: string): Problem {
  return new Problem('RequestMalformed', undefined, { errors: [{ path, message }] });
}
