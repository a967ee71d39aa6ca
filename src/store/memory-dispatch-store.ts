import { compareEntries, type Bounds } from './dispatch-checks.ts';
import type {
  DispatchStore,
  Document,
  DocumentKey,
  IndexEntry,
  LogEntry,
  Partition,
} from './dispatch-store.ts';
import {
  LocalDispatchStore,
  type LocalPartition,
  type LocalRecords,
} from './local-dispatch-store.ts';

/** Records of job dispatch that end with the process: for `halfway dev`, and for tests. */
export function openMemoryDispatchStore(): DispatchStore {
  return new LocalDispatchStore(new MemoryRecords());
}

export class MemoryRecords implements LocalRecords {
  readonly shown = 'memory';
  readonly isDurable = false;
  readonly durability = 'Records of job dispatch are in memory and end with this process';
  readonly #partitions = new Map<Partition, MemoryPartition>();

  partition(name: Partition): LocalPartition {
    const records = this.#partitions.get(name) ?? new MemoryPartition();
    this.#partitions.set(name, records);
    return records;
  }

  read<Result>(run: () => Result): Result {
    return run();
  }

  write<Result>(run: () => Result): Result {
    return run();
  }

  close(): void {
    this.#partitions.clear();
  }
}

/** What is empty is not kept. */
class MemoryPartition implements LocalPartition {
  readonly #documents = new Map<string, Document>();
  readonly #indexes = new Map<string, MemoryIndex>();
  readonly #logs = new Map<string, LogEntry[]>();

  get(key: DocumentKey): Document | undefined {
    return this.#documents.get(nameOf(key));
  }

  version(key: DocumentKey): number {
    return this.get(key)?.version ?? 0;
  }

  put(key: DocumentKey, text: string): void {
    this.#documents.set(nameOf(key), { key, version: this.version(key) + 1, text });
  }

  remove(key: DocumentKey): void {
    this.#documents.delete(nameOf(key));
  }

  range(
    index: string,
    bounds: Bounds,
    query: { readonly isDescending: boolean; readonly limit: number },
  ): readonly IndexEntry[] {
    return this.#indexes.get(index)?.between(bounds, query) ?? [];
  }

  count(index: string): number {
    return this.#indexes.get(index)?.count ?? 0;
  }

  score(index: string, member: string): number | undefined {
    return this.#indexes.get(index)?.score(member);
  }

  add(index: string, entry: IndexEntry): void {
    const entries = this.#indexes.get(index) ?? new MemoryIndex();
    this.#indexes.set(index, entries);
    entries.add(entry);
  }

  drop(index: string, member: string): void {
    const entries = this.#indexes.get(index);
    entries?.drop(member);
    if (entries?.count === 0) this.#indexes.delete(index);
  }

  clearIndex(index: string): void {
    this.#indexes.delete(index);
  }

  firstOf(log: string): number {
    return this.#logs.get(log)?.[0]?.number ?? 0;
  }

  entriesOf(
    log: string,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): readonly LogEntry[] {
    // Numbers have no gaps, so the place of one follows from that of the first.
    const start = Math.max(0, after + 1 - this.firstOf(log));
    return (this.#logs.get(log) ?? []).slice(start, start + limit);
  }

  append(log: string, text: string, keep: number): void {
    const entries = this.#logs.get(log) ?? [];
    this.#logs.set(log, entries);
    entries.push({ number: (entries.at(-1)?.number ?? 0) + 1, text });
    if (entries.length > keep) entries.splice(0, entries.length - keep);
  }

  clearLog(log: string): void {
    this.#logs.delete(log);
  }
}

/** Members by name, and once more in order. */
class MemoryIndex {
  readonly #scores = new Map<string, number>();
  readonly #entries: IndexEntry[] = [];

  get count(): number {
    return this.#entries.length;
  }

  score(member: string): number | undefined {
    return this.#scores.get(member);
  }

  add(entry: IndexEntry): void {
    this.drop(entry.member);
    this.#scores.set(entry.member, entry.score);
    this.#entries.splice(this.#placeOf(entry), 0, entry);
  }

  drop(member: string): void {
    const score = this.#scores.get(member);
    if (score === undefined) return;
    this.#scores.delete(member);
    this.#entries.splice(this.#placeOf({ member, score }), 1);
  }

  between(
    { low, high }: Bounds,
    { isDescending, limit }: { readonly isDescending: boolean; readonly limit: number },
  ): readonly IndexEntry[] {
    const start = this.#placeOf(low, 'behind');
    const end = this.#placeOf(high);
    if (isDescending) return this.#entries.slice(Math.max(start, end - limit), end).toReversed();
    return this.#entries.slice(start, Math.min(end, start + limit));
  }

  /** How many entries come before this one; with itself, if `behind` is asked for. */
  #placeOf(entry: IndexEntry, side: 'at' | 'behind' = 'at'): number {
    let from = 0;
    let to = this.#entries.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const other = this.#entries[middle];
      const order = other === undefined ? 1 : compareEntries(other, entry);
      if (order < 0 || (order === 0 && side === 'behind')) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

/** `/` is in no name. */
function nameOf({ kind, id }: DocumentKey): string {
  return `${kind}/${id}`;
}
