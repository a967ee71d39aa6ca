import { assert } from '../base/assert.ts';
import type { Coordinator, Holder, PlacedKey, PlacedRow } from './coordinator.ts';
import { OWN_ROWS_MAX, RELEASES_WAITING_MAX, ROW_CHARS_MAX, ROWS_PER_WRITE_MAX } from './limits.ts';
import type { ListenerClaim, ListenerRow } from './listener-directory.ts';
import { digestWith, formatRow, isRowKey, parseRow } from './records.ts';

interface OwnListener {
  readonly placed: PlacedRow;
  readonly claim: ListenerClaim;
  /** As lookups show it; undefined while the claim is under way. */
  row: ListenerRow | undefined;
  /** Whether the coordinator has it under the present epoch, as far as we know. */
  isWritten: boolean;
  /** Whether it ever had it: others may know it from there. */
  wasWritten: boolean;
}

export interface OwnObserver {
  added(row: ListenerRow, at: { readonly isWritten: boolean }): void;
  removed(row: ListenerRow, at: { readonly wasWritten: boolean }): void;
  /** The same listener under a new epoch. */
  renamed(before: ListenerRow, after: ListenerRow): void;
}

/** What became of a step at the coordinator; `lease-lost` calls for a new lease. */
export type StepResult = 'done' | 'lease-lost';

/**
 * The listeners of this node: we know them better than the coordinator, which is made to agree. A
 * listener is held from the moment its claim is granted, whether the coordinator has it or not.
 */
export class OwnListeners {
  readonly #coordinator: Coordinator;
  readonly #observer: OwnObserver;
  readonly #held = new Map<string, OwnListener>();
  /** Released here, and perhaps still there. */
  readonly #toRelease = new Map<string, PlacedKey>();
  /** Those of `#held` that are not written and not being claimed. */
  readonly #unwritten = new Set<OwnListener>();
  /** Sum of the parts of written rows: what our digest should be, beside the record. */
  #digest = 0;
  /** Counts every step begun or ended, so that a comparison can tell that none was under way. */
  #steps = 0;
  #stepsOpen = 0;
  /** The coordinator may have anything: compare row by row. */
  #isSuspect = false;
  /** Counts epochs: what a step began under one means nothing under the next. */
  #lives = 0;
  repaired = 0;

  constructor(coordinator: Coordinator, observer: OwnObserver) {
    this.#coordinator = coordinator;
    this.#observer = observer;
  }

  get size(): number {
    return this.#held.size;
  }

  get unwritten(): number {
    return this.#unwritten.size;
  }

  get isFull(): boolean {
    return this.#held.size >= OWN_ROWS_MAX;
  }

  has(key: string): boolean {
    return this.#held.has(key);
  }

  /** The row of a listener that lookups show, as the coordinator keeps it. */
  shown(key: string): string | undefined {
    const own = this.#held.get(key);
    return own?.row === undefined ? undefined : own.placed.text;
  }

  /** Of all listeners that lookups show. */
  *keys(): Iterable<string> {
    for (const [key, { row }] of this.#held) if (row !== undefined) yield key;
  }

  /** Marks the key as being claimed; what is not fit to be kept is a bug of the caller and throws. */
  begin(claim: ListenerClaim): PlacedRow {
    const placed = formatRow(claim);
    assert(isRowKey(claim.key), 'a row key is 1 to 128 printable ASCII characters without spaces');
    assert(!this.#held.has(claim.key), `listener "${claim.key}" is registered once`);
    assert(placed.text.length <= ROW_CHARS_MAX, `a row has at most ${ROW_CHARS_MAX} characters`);
    const standing = { row: undefined, isWritten: false, wasWritten: false };
    this.#held.set(claim.key, { placed, claim, ...standing });
    return placed;
  }

  /** Runs one step at the coordinator, so that comparisons know of it. */
  async step<Result>(take: () => Promise<Result>): Promise<Result> {
    this.#stepsOpen += 1;
    try {
      return await take();
    } finally {
      this.#stepsOpen -= 1;
      this.#steps += 1;
    }
  }

  /** The claim was granted. False: it was released meanwhile, and must be taken out again. */
  grant(key: string, holder: Holder, options: { readonly isWritten: boolean }): boolean {
    const own = this.#held.get(key);
    if (own === undefined) return false;
    own.row = { ...own.claim, ...holder };
    own.isWritten = options.isWritten;
    own.wasWritten = options.isWritten;
    if (own.isWritten) this.#digest = digestWith(this.#digest, own.placed.part, 0);
    else this.#unwritten.add(own);
    this.#observer.added(own.row, options);
    return true;
  }

  /** The claim was refused. */
  abandon(key: string): void {
    this.#held.delete(key);
  }

  /** Forgets a listener; the coordinator hears of it with the next `flush`. */
  release(key: string): void {
    const own = this.#held.get(key);
    if (own === undefined) return;
    this.#held.delete(key);
    if (own.isWritten) this.#digest = digestWith(this.#digest, 0, own.placed.part);
    this.#unwritten.delete(own);
    // Not written, as far as we know; but a write whose answer was lost may have been carried out.
    this.takeOut(own.placed);
    if (own.row !== undefined) this.#observer.removed(own.row, own);
  }

  /** Has the row removed at the coordinator with the next `flush`. */
  takeOut(placed: PlacedKey): void {
    if (this.#toRelease.size < RELEASES_WAITING_MAX) this.#toRelease.set(placed.key, placed);
    else this.#isSuspect = true;
  }

  /** Nothing of ours is at the coordinator: the epoch is a new one. */
  restart(holder: Holder): void {
    this.#digest = 0;
    this.#unwritten.clear();
    this.#toRelease.clear();
    this.#lives += 1;
    this.#isSuspect = false;
    for (const own of this.#held.values()) {
      own.isWritten = false;
      if (own.row === undefined) continue;
      this.#unwritten.add(own);
      const before = own.row;
      own.row = { ...own.claim, ...holder };
      this.#observer.renamed(before, own.row);
    }
  }

  /** Somebody doubts what the coordinator has of us: compare row by row, even if the digests agree. */
  suspectAll(): void {
    this.#isSuspect = true;
  }

  /** Writes and releases what waits; only one at a time. Rejects with `CoordinatorError`. */
  async flush(holder: Holder): Promise<StepResult> {
    const life = this.#lives;
    while (this.#lives === life && this.#toRelease.size + this.#unwritten.size > 0) {
      const result =
        this.#toRelease.size > 0
          ? await this.#flushReleases(holder)
          : await this.#flushRows(holder);
      if (result === 'lease-lost') return result;
    }
    return 'done';
  }

  async #flushReleases(holder: Holder): Promise<StepResult> {
    const batch = firstOf(this.#toRelease.values());
    const result = await this.step(() => this.#coordinator.release(holder, batch));
    if (result === 'lease-lost') return result;
    for (const { key } of batch) this.#toRelease.delete(key);
    return 'done';
  }

  async #flushRows(holder: Holder): Promise<StepResult> {
    const life = this.#lives;
    const batch = firstOf(this.#unwritten);
    const rows = batch.map(({ placed }) => placed);
    const result = await this.step(() => this.#coordinator.write(holder, rows));
    if (result === 'lease-lost') return result;
    // Under a new epoch, what was written under the old one is void.
    if (this.#lives === life) for (const own of batch) this.#noteWritten(own);
    return 'done';
  }

  /** A point to compare from: true later when no step was due, begun, under way or ended since. */
  quietSince(): () => boolean {
    const isQuiet = this.#stepsOpen === 0 && this.#toRelease.size === 0;
    const steps = isQuiet ? this.#steps : -1;
    return () => this.#stepsOpen === 0 && this.#steps === steps;
  }

  get isSuspect(): boolean {
    return this.#isSuspect;
  }

  /** Whether the coordinator has something else than we gave it; `digest` is of a quiet moment. */
  differs(digest: number | undefined, recordPart: number): boolean {
    return digest !== digestWith(this.#digest, recordPart, 0);
  }

  /**
   * Compares row by row with what the coordinator has, and puts it right. How many rows were wrong; or
   * undefined when our lease was lost. Rejects with `CoordinatorError`.
   */
  async repair(holder: Holder): Promise<number | undefined> {
    // Rows that are written while we read may be missing on the pages: only those from before count.
    const expected = [...this.#held.values()].filter(({ isWritten }) => isWritten);
    const found = new Set<string>();
    let wrong = 0;
    let from: string | undefined;
    do {
      const page = await this.#coordinator.rows(holder, from);
      for (const { key, part, text } of page.rows) {
        const own = this.#held.get(key);
        if (own !== undefined && own.placed.part === part) found.add(key);
        if (own !== undefined || this.#toRelease.has(key)) continue;
        const claim = parseRow(key, text);
        this.takeOut({
          key,
          namespace: claim?.namespace ?? '',
          hybridConnection: claim?.hybridConnection ?? '',
        });
        wrong += 1;
      }
      from = page.next;
    } while (from !== undefined);
    for (const own of expected) {
      const { key, part } = own.placed;
      if (found.has(key) || this.#held.get(key) !== own || !own.isWritten) continue;
      own.isWritten = false;
      this.#unwritten.add(own);
      this.#digest = digestWith(this.#digest, 0, part);
      wrong += 1;
    }
    this.#isSuspect = false;
    this.repaired += wrong;
    return (await this.flush(holder)) === 'done' ? wrong : undefined;
  }

  #noteWritten(own: OwnListener): void {
    // Released while it was being written: its release waits already.
    if (!this.#unwritten.delete(own)) return;
    own.isWritten = true;
    own.wasWritten = true;
    this.#digest = digestWith(this.#digest, own.placed.part, 0);
  }
}

function firstOf<Item>(items: Iterable<Item>): readonly Item[] {
  const batch: Item[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length === ROWS_PER_WRITE_MAX) break;
  }
  return batch;
}
