import * as v from 'valibot';
import type {
  Condition,
  DispatchStore,
  Document,
  DocumentKey,
  IndexEntry,
  RangeQuery,
  Step,
} from '../store/dispatch-store.ts';
import { Problem } from './problem.ts';

/** A kind of record: its name in the store, and what a record of it must look like. */
export interface Kind<Value> {
  readonly name: string;
  readonly schema: v.GenericSchema<unknown, Value>;
}

export interface Versioned<Value> {
  readonly id: string;
  readonly version: number;
  readonly value: Value;
}

/** A record that this version cannot read: foreign, or written by a newer one. */
export class UnreadableRecord extends Error {
  override readonly name = 'UnreadableRecord';
}

/** How often a change is tried again when others change the same. */
const TRIES_MAX = 20;

/** The records of one environment, typed. */
export class Repository {
  readonly partition: string;
  readonly #store: DispatchStore;

  constructor(store: DispatchStore, partition: string) {
    this.#store = store;
    this.partition = partition;
  }

  async get<Value>(kind: Kind<Value>, id: string): Promise<Versioned<Value> | undefined> {
    const document = await this.#store.get(this.partition, { kind: kind.name, id });
    return document === undefined ? undefined : read(kind, document);
  }

  /** Those that are there, in the order asked. */
  async getMany<Value>(
    kind: Kind<Value>,
    ids: readonly string[],
  ): Promise<readonly Versioned<Value>[]> {
    if (ids.length === 0) return [];
    const keys = ids.map((id): DocumentKey => ({ kind: kind.name, id }));
    const documents = await this.#store.getMany(this.partition, keys);
    return documents.filter(found => found !== undefined).map(found => read(kind, found));
  }

  range(index: string, query: RangeQuery): Promise<readonly IndexEntry[]> {
    return this.#store.range(this.partition, index, query);
  }

  /**
   * All entries, read `limit` at a time. For those who look at each and cannot be sure that it is gone then: who
   * reads the first ones only sees the same again and again, and never what is behind them.
   */
  async all(
    index: string,
    query: Pick<RangeQuery, 'to'> & { readonly limit: number },
  ): Promise<readonly IndexEntry[]> {
    const entries: IndexEntry[] = [];
    for (;;) {
      const after = entries.at(-1);
      const more = await this.range(index, {
        ...query,
        ...(after === undefined ? {} : { after }),
      });
      entries.push(...more);
      if (more.length < query.limit) return entries;
    }
  }

  count(index: string): Promise<number> {
    return this.#store.count(this.partition, index);
  }

  score(index: string, member: string): Promise<number | undefined> {
    return this.#store.score(this.partition, index, member);
  }

  log(
    log: string,
    query: { readonly after: number; readonly limit: number },
  ): ReturnType<DispatchStore['log']> {
    return this.#store.log(this.partition, log, query);
  }

  /**
   * Reads, decides and writes, again from the start while somebody else changes what it was decided
   * upon. `decide` gives a draft, and what is answered when the draft has been written; it may throw a
   * `Problem`. Rejects with `VersionConflict` when that never ends.
   */
  async change<Answer>(
    decide: () => Promise<{ readonly draft: Draft; readonly answer: Answer }>,
  ): Promise<Answer> {
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const { draft, answer } = await decide();
      if (draft.isEmpty) return answer;
      const outcome = await this.#store.step(this.partition, draft.step());
      if (outcome.type === 'done') return answer;
      draft.refuse(outcome.condition);
    }
    throw new Problem('VersionConflict');
  }
}

/** A step in the making. */
export class Draft {
  readonly #conditions: { readonly condition: Condition; readonly problem: Problem | undefined }[] =
    [];
  readonly #puts: NonNullable<Step['puts']>[number][] = [];
  readonly #removes: DocumentKey[] = [];
  readonly #adds: NonNullable<Step['adds']>[number][] = [];
  readonly #drops: NonNullable<Step['drops']>[number][] = [];
  readonly #appends: NonNullable<Step['appends']>[number][] = [];
  readonly #clears: NonNullable<Step['clears']>[number][] = [];

  /** Nothing is to be written. */
  get isEmpty(): boolean {
    const writes = [
      this.#puts,
      this.#removes,
      this.#adds,
      this.#drops,
      this.#appends,
      this.#clears,
    ];
    return writes.every(list => list.length === 0);
  }

  /** The record must still be as it was read. */
  unchanged<Value>(kind: Kind<Value>, { id, version }: Versioned<Value>): this {
    return this.#require({ type: 'version', key: { kind: kind.name, id }, version });
  }

  /** Writes a record that must not be there yet; `problem` is what is thrown when it is. */
  create<Value>(kind: Kind<Value>, id: string, value: Value, problem?: Problem): this {
    const key = { kind: kind.name, id };
    this.#require({ type: 'version', key, version: 0 }, problem);
    this.#puts.push({ key, text: JSON.stringify(value) });
    return this;
  }

  /** Writes over a record that must still be as it was read. */
  replace<Value>(kind: Kind<Value>, before: Versioned<Value>, value: Value): this {
    this.unchanged(kind, before);
    this.#puts.push({ key: { kind: kind.name, id: before.id }, text: JSON.stringify(value) });
    return this;
  }

  /** Removes a record that must still be as it was read. */
  remove<Value>(kind: Kind<Value>, before: Versioned<Value>): this {
    this.unchanged(kind, before);
    this.#removes.push({ kind: kind.name, id: before.id });
    return this;
  }

  /** Throws `problem` unless the index has fewer members than this. */
  below(index: string, count: number, problem: Problem): this {
    return this.#require({ type: 'index-below', index, count }, problem);
  }

  /** The index must still be empty, or the change is decided anew. */
  unclaimed(index: string): this {
    return this.#require({ type: 'index-below', index, count: 1 });
  }

  /** Whether a member is in an index, or is not; without a problem the change is decided anew. */
  member(index: string, member: string, isIn: boolean, problem?: Problem): this {
    return this.#require({ type: 'member', index, member, isIn }, problem);
  }

  add(index: string, member: string, score: number): this {
    this.#adds.push({ index, member, score });
    return this;
  }

  drop(index: string, member: string): this {
    this.#drops.push({ index, member });
    return this;
  }

  append(log: string, entry: unknown, keep: number): this {
    this.#appends.push({ log, text: JSON.stringify(entry), keep });
    return this;
  }

  clearLog(log: string): this {
    this.#clears.push({ log });
    return this;
  }

  clearIndex(index: string): this {
    this.#clears.push({ index });
    return this;
  }

  step(): Step {
    return {
      conditions: this.#conditions.map(({ condition }) => condition),
      puts: this.#puts,
      removes: this.#removes,
      adds: this.#adds,
      drops: this.#drops,
      appends: this.#appends,
      clears: this.#clears,
    };
  }

  /** Throws what stands for a condition that did not hold; returns when it is to be decided anew. */
  refuse(condition: number): void {
    const problem = this.#conditions[condition]?.problem;
    if (problem !== undefined) throw problem;
  }

  #require(condition: Condition, problem?: Problem): this {
    this.#conditions.push({ condition, problem });
    return this;
  }
}

function read<Value>(kind: Kind<Value>, { key, version, text }: Document): Versioned<Value> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UnreadableRecord(`The ${kind.name} "${key.id}" is not JSON`, { cause });
  }
  const parsed = v.safeParse(kind.schema, json);
  if (parsed.success) return { id: key.id, version, value: parsed.output };
  throw new UnreadableRecord(
    `The ${kind.name} "${key.id}" cannot be read: it is foreign, or newer`,
  );
}
