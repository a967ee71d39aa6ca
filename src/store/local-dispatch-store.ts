import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { ChangeBell } from './change-bell.ts';
import { CommitPace } from './commit-pace.ts';
import {
  boundsOf,
  checkKeys,
  checkLogQuery,
  checkMember,
  checkNames,
  wholeStep,
  type Bounds,
  type WholeStep,
} from './dispatch-checks.ts';
import type {
  Condition,
  DispatchStore,
  Document,
  DocumentKey,
  IndexEntry,
  LogEntry,
  OnChange,
  Partition,
  RangeQuery,
  Step,
  StepOutcome,
} from './dispatch-store.ts';
import { StoreError } from './relay-store.ts';

/** Where a `LocalDispatchStore` keeps things: one partition, changed by this process alone and without waiting. */
export interface LocalPartition {
  get(key: DocumentKey): Document | undefined;
  /** 0: there is none. */
  version(key: DocumentKey): number;
  put(key: DocumentKey, text: string): void;
  remove(key: DocumentKey): void;
  range(
    index: string,
    bounds: Bounds,
    query: { readonly isDescending: boolean; readonly limit: number },
  ): readonly IndexEntry[];
  count(index: string): number;
  score(index: string, member: string): number | undefined;
  add(index: string, entry: IndexEntry): void;
  drop(index: string, member: string): void;
  clearIndex(index: string): void;
  /** Number of the oldest entry of a log; 0: it has none. */
  firstOf(log: string): number;
  entriesOf(
    log: string,
    query: { readonly after: number; readonly limit: number },
  ): readonly LogEntry[];
  append(log: string, text: string, keep: number): void;
  clearLog(log: string): void;
}

export interface LocalRecords {
  readonly shown: string;
  readonly isDurable: boolean;
  readonly durability: string;
  /** Memory that copies of documents take; undefined: there are none. */
  readonly cachedBytes?: number;
  partition(name: Partition): LocalPartition;
  /** Runs what reads; throws `StoreError`. */
  read<Result>(run: () => Result): Result;
  /**
   * Runs what writes, all of it or nothing, durably where records are durable; throws `StoreError`. What `run` has
   * written it reads from then on, also before this returns.
   */
  write<Result>(run: () => Result): Result;
  close(): void;
}

interface WaitingStep {
  readonly partition: Partition;
  readonly step: WholeStep;
  readonly resolve: (outcome: StepOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Steps that are written at once; the next ones have to wait for a turn of the event loop. */
const STEPS_AT_A_TIME = 100;
/** Texts of all steps but the first that are written at once, in characters. */
const CHARS_AT_A_TIME = 4 * 1024 * 1024;

/**
 * A `DispatchStore` over records that only this process has: in memory, or in a file it holds alone. Steps that are
 * asked for in the same turn of the event loop, or while the disk is let rest, are taken one after the other, but
 * written to the disk together, because what takes time is the disk.
 */
export class LocalDispatchStore implements DispatchStore {
  readonly shown: string;
  readonly isDurable: boolean;
  readonly isShared = false;
  readonly durability: string;
  readonly #records: LocalRecords;
  readonly #bell = new ChangeBell();
  readonly #clock: Clock;
  readonly #pace = new CommitPace();
  #waiting: WaitingStep[] = [];
  /** Of the next batch; undefined: none is due. */
  #cancelNext: CancelTimer | undefined;
  #isClosed = false;

  constructor(records: LocalRecords, clock: Clock = systemClock) {
    this.#records = records;
    this.#clock = clock;
    this.shown = records.shown;
    this.isDurable = records.isDurable;
    this.durability = records.durability;
  }

  /** Memory that copies of documents take, about; 0 where there are none. */
  get cachedBytes(): number {
    return this.#records.cachedBytes ?? 0;
  }

  async get(partition: Partition, key: DocumentKey): Promise<Document | undefined> {
    checkKeys([key]);
    return this.#read(partition, records => records.get(key));
  }

  async getMany(
    partition: Partition,
    keys: readonly DocumentKey[],
  ): Promise<readonly (Document | undefined)[]> {
    checkKeys(keys);
    return this.#read(partition, records => keys.map(key => records.get(key)));
  }

  async range(
    partition: Partition,
    index: string,
    query: RangeQuery,
  ): Promise<readonly IndexEntry[]> {
    checkNames(index);
    const bounds = boundsOf(query);
    const { isDescending = false, limit } = query;
    return this.#read(partition, records => records.range(index, bounds, { isDescending, limit }));
  }

  async count(partition: Partition, index: string): Promise<number> {
    checkNames(index);
    return this.#read(partition, records => records.count(index));
  }

  async score(partition: Partition, index: string, member: string): Promise<number | undefined> {
    checkNames(index);
    checkMember(member);
    return this.#read(partition, records => records.score(index, member));
  }

  async log(
    partition: Partition,
    log: string,
    query: { readonly after: number; readonly limit: number },
  ): Promise<{ readonly first: number; readonly entries: readonly LogEntry[] }> {
    checkNames(log);
    checkLogQuery(query);
    return this.#read(partition, records => ({
      first: records.firstOf(log),
      entries: records.entriesOf(log, query),
    }));
  }

  async step(partition: Partition, step: Step): Promise<StepOutcome> {
    checkNames(partition);
    const whole = wholeStep(step);
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ partition, step: whole, resolve, reject });
      this.#takeSoon();
    });
  }

  watch(onChange: OnChange): () => void {
    return this.#bell.watch(onChange);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    while (this.#waiting.length > 0) this.#takeSteps();
    this.#bell.close();
    this.#records.close();
    return Promise.resolve();
  }

  async #read<Result>(
    partition: Partition,
    run: (records: LocalPartition) => Result,
  ): Promise<Result> {
    checkNames(partition);
    this.#assertOpen();
    const records = this.#records.partition(partition);
    return Promise.resolve(this.#records.read(() => run(records)));
  }

  #takeSoon(): void {
    if (this.#cancelNext !== undefined || this.#waiting.length === 0) return;
    const take = (): void => {
      this.#takeSteps();
      this.#takeSoon();
    };
    const restMs = this.#isClosed ? 0 : this.#pace.restMs(this.#clock.nowMs());
    if (restMs > 0) {
      this.#cancelNext = this.#clock.after(restMs, take);
      return;
    }
    const immediate = setImmediate(take);
    this.#cancelNext = () => clearImmediate(immediate);
  }

  #takeSteps(): void {
    this.#cancelNext?.();
    this.#cancelNext = undefined;
    const steps = this.#waiting.splice(0, countAtATime(this.#waiting));
    if (steps.length === 0) return;
    let takenAtMs = 0;
    try {
      const taken = this.#records.write(() => {
        const outcomes = steps.map(waiting => ({
          waiting,
          outcome: takeStep(this.#records.partition(waiting.partition), waiting.step),
        }));
        takenAtMs = this.#clock.nowMs();
        return outcomes;
      });
      if (this.isDurable) this.#paceAfter(takenAtMs);
      for (const { waiting, outcome } of taken) {
        if (outcome.type === 'done') this.#bell.ring(waiting.partition, waiting.step.topics);
        waiting.resolve(outcome);
      }
    } catch (error) {
      for (const { reject } of steps) reject(error);
    }
  }

  #paceAfter(takenAtMs: number): void {
    const nowMs = this.#clock.nowMs();
    this.#pace.committed(nowMs, nowMs - takenAtMs);
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StoreError(`Cannot use ${this.shown}: it is closed`);
  }
}

/** How many of these are written at once, at least one. */
function countAtATime(waiting: readonly WaitingStep[]): number {
  let chars = 0;
  const end = waiting.slice(0, STEPS_AT_A_TIME).findIndex(({ step }, index) => {
    for (const { text } of [...step.puts, ...step.appends]) chars += text.length;
    return index > 0 && chars > CHARS_AT_A_TIME;
  });
  return end === -1 ? STEPS_AT_A_TIME : end;
}

function takeStep(records: LocalPartition, step: WholeStep): StepOutcome {
  const condition = step.conditions.findIndex(one => !holds(records, one));
  if (condition !== -1) return { type: 'refused', condition };
  for (const { log, index } of step.clears) {
    if (log !== undefined) records.clearLog(log);
    if (index !== undefined) records.clearIndex(index);
  }
  for (const key of step.removes) records.remove(key);
  for (const { key, text } of step.puts) records.put(key, text);
  for (const { index, member } of step.drops) records.drop(index, member);
  for (const { index, member, score } of step.adds) records.add(index, { member, score });
  for (const { log, text, keep } of step.appends) records.append(log, text, keep);
  return { type: 'done' };
}

function holds(records: LocalPartition, condition: Condition): boolean {
  if (condition.type === 'version') return records.version(condition.key) === condition.version;
  const { index } = condition;
  if (condition.type === 'index-below') return records.count(index) < condition.count;
  return (records.score(index, condition.member) !== undefined) === condition.isIn;
}
