import type { DispatchKeys } from '../redis/keys.ts';
import type { RunScript } from '../redis/scripts.ts';
import type { Bounds, WholeStep } from './dispatch-checks.ts';
import type {
  Condition,
  DocumentKey,
  IndexEntry,
  LogEntry,
  Partition,
  StepOutcome,
} from './dispatch-store.ts';
import { itemsOf, pairsOf, textsOf } from './redis-answers.ts';

/** The scripts of job dispatch as typed functions; the header of each Lua file is its contract. */
export function dispatchScripts(keys: DispatchKeys, load: (file: URL) => RunScript) {
  const takeStep = load(new URL('./scripts/dispatch-step.lua', import.meta.url));
  const readRange = load(new URL('./scripts/dispatch-range.lua', import.meta.url));
  const readLog = load(new URL('./scripts/dispatch-log.lua', import.meta.url));
  return {
    takeStep: async (partition: Partition, step: WholeStep): Promise<StepOutcome> => {
      const words = new StepWords(keys, partition);
      for (const condition of step.conditions) words.compare(condition);
      words.write(step);
      // Without keys it would be a script of any slot.
      if (words.keys.length === 0) return { type: 'done' };
      const condition = Number(await takeStep(words.keys, words.args));
      return condition === -1 ? { type: 'done' } : { type: 'refused', condition };
    },
    readRange: async (
      partition: Partition,
      index: string,
      { low, high }: Bounds,
      { isDescending, limit }: { readonly isDescending: boolean; readonly limit: number },
    ): Promise<readonly IndexEntry[]> => {
      const between = [inRedis(low.score), low.member, inRedis(high.score), high.member];
      const side = isDescending ? 'last' : 'first';
      const answer = await readRange([keys.index(partition, index)], [...between, limit, side]);
      const entries = pairsOf(textsOf(answer)).map(([member, score]) => ({
        member,
        score: Number(score),
      }));
      return isDescending ? entries.toReversed() : entries;
    },
    readLog: async (
      partition: Partition,
      log: string,
      { after, limit }: { readonly after: number; readonly limit: number },
    ): Promise<{ readonly first: number; readonly entries: readonly LogEntry[] }> => {
      const answer = await readLog([keys.log(partition, log)], [after, limit]);
      const [first, entries] = itemsOf(answer);
      return { first: numberIn(first), entries: itemsOf(entries).map(entryIn) };
    },
  };
}

/** A step as the script reads it. */
class StepWords {
  readonly keys: string[] = [];
  readonly args: (string | number)[] = [];
  readonly #of: DispatchKeys;
  readonly #partition: Partition;
  readonly #numbers = new Map<string, number>();

  constructor(of: DispatchKeys, partition: Partition) {
    this.#of = of;
    this.#partition = partition;
  }

  compare(condition: Condition): void {
    if (condition.type === 'version') {
      this.#say('version', this.#document(condition.key), condition.version);
      return;
    }
    const index = this.#index(condition.index);
    if (condition.type === 'index-below') this.#say('below', index, condition.count);
    else this.#say('member', index, condition.member, condition.isIn ? 1 : 0);
  }

  write({ clears, removes, puts, drops, adds, appends }: WholeStep): void {
    for (const { log, index } of clears) {
      if (log !== undefined) this.#say('remove', this.#log(log));
      if (index !== undefined) this.#say('remove', this.#index(index));
    }
    for (const key of removes) this.#say('remove', this.#document(key));
    for (const { key, text } of puts) this.#say('put', this.#document(key), text);
    for (const { index, member } of drops) this.#say('drop', this.#index(index), member);
    for (const { index, score, member } of adds) {
      this.#say('add', this.#index(index), score, member);
    }
    for (const { log, keep, text } of appends) this.#say('append', this.#log(log), keep, text);
  }

  #say(name: string, key: string, ...words: readonly (string | number)[]): void {
    const number = this.#numbers.get(key) ?? this.keys.push(key);
    this.#numbers.set(key, number);
    this.args.push(name, number, ...words);
  }

  #document({ kind, id }: DocumentKey): string {
    return this.#of.document(this.#partition, kind, id);
  }

  #index(name: string): string {
    return this.#of.index(this.#partition, name);
  }

  #log(name: string): string {
    return this.#of.log(this.#partition, name);
  }
}

function inRedis(score: number): string {
  if (Number.isFinite(score)) return String(score);
  return score < 0 ? '-inf' : 'inf';
}

/** One entry of the stream: `[0-number, ["text", text]]`. */
function entryIn(entry: unknown): LogEntry {
  const [id, fields] = itemsOf(entry);
  return { number: numberIn(id), text: textsOf(fields)[1] ?? '' };
}

function numberIn(id: unknown): number {
  return Number(/^0-(\d+)$/.exec(String(id))?.[1] ?? 0);
}
