import type {
  Condition,
  Document,
  DocumentKey,
  IndexEntry,
  LogEntry,
  RangeQuery,
  Step,
  StepOutcome,
} from '../../src/store/dispatch-store.ts';

/** What one partition of a `DispatchStore` should hold, told as simply as can be: for comparison. */
export class DispatchModel {
  readonly #documents = new Map<string, Document>();
  readonly #indexes = new Map<string, Map<string, number>>();
  readonly #logs = new Map<string, { entries: readonly LogEntry[]; last: number }>();

  get(key: DocumentKey): Document | undefined {
    return this.#documents.get(JSON.stringify(key));
  }

  count(index: string): number {
    return this.#indexes.get(index)?.size ?? 0;
  }

  score(index: string, member: string): number | undefined {
    return this.#indexes.get(index)?.get(member);
  }

  range(index: string, query: RangeQuery): readonly IndexEntry[] {
    const { from = -Infinity, to = Infinity, after, isDescending = false, limit } = query;
    const all = [...(this.#indexes.get(index) ?? [])].map(([member, score]) => ({ member, score }));
    const sorted = all.toSorted((one, other) => {
      const upwards = one.score - other.score || (one.member < other.member ? -1 : 1);
      return isDescending ? -upwards : upwards;
    });
    const isBehind = (entry: IndexEntry): boolean => {
      if (after === undefined) return true;
      if (entry.score !== after.score) return entry.score > after.score !== isDescending;
      return entry.member !== after.member && entry.member > after.member !== isDescending;
    };
    return sorted
      .filter(entry => entry.score >= from && entry.score <= to && isBehind(entry))
      .slice(0, limit);
  }

  log(log: string, query: { readonly after: number; readonly limit: number }) {
    const entries = this.#logs.get(log)?.entries ?? [];
    const behind = entries.filter(({ number }) => number > query.after).slice(0, query.limit);
    return { first: entries[0]?.number ?? 0, entries: behind };
  }

  step(step: Step): StepOutcome {
    const condition = step.conditions.findIndex(one => !this.#holds(one));
    if (condition !== -1) return { type: 'refused', condition };
    for (const { log, index } of step.clears ?? []) {
      if (log !== undefined) this.#logs.delete(log);
      if (index !== undefined) this.#indexes.delete(index);
    }
    for (const key of step.removes ?? []) this.#documents.delete(JSON.stringify(key));
    for (const { key, text } of step.puts ?? []) {
      const version = (this.get(key)?.version ?? 0) + 1;
      this.#documents.set(JSON.stringify(key), { key, version, text });
    }
    for (const { index, member } of step.drops ?? []) this.#indexes.get(index)?.delete(member);
    for (const { index, member, score } of step.adds ?? []) {
      const members = this.#indexes.get(index) ?? new Map();
      this.#indexes.set(index, members.set(member, score));
    }
    for (const { log, text, keep } of step.appends ?? []) {
      const { entries, last } = this.#logs.get(log) ?? { entries: [], last: 0 };
      const number = last + 1;
      this.#logs.set(log, { entries: [...entries, { number, text }].slice(-keep), last: number });
    }
    return { type: 'done' };
  }

  #holds(condition: Condition): boolean {
    if (condition.type === 'version') {
      return (this.get(condition.key)?.version ?? 0) === condition.version;
    }
    if (condition.type === 'index-below') return this.count(condition.index) < condition.count;
    return (this.score(condition.index, condition.member) !== undefined) === condition.isIn;
  }
}
