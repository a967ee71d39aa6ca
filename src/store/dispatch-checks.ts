import {
  GET_MANY_MAX,
  LOG_KEEP_MAX,
  MEMBER_FORM,
  NAME_FORM,
  RANGE_MAX,
  STEP_CHARS_MAX,
  STEP_PARTS_MAX,
  TEXT_CHARS_MAX,
  type Condition,
  type DocumentKey,
  type IndexEntry,
  type RangeQuery,
  type Step,
} from './dispatch-store.ts';

// What every DispatchStore does before it touches anything: all of it throws RangeError.

/** All parts of a step, none left out. */
export interface WholeStep extends Required<Step> {
  /** What `watch` tells of it: kinds, indexes and logs, each once. */
  readonly topics: readonly string[];
}

/** The part of an index that a query is about: what lies between both, neither included. */
export interface Bounds {
  readonly low: IndexEntry;
  readonly high: IndexEntry;
}

/** Texts before and behind those of all members. */
const BEFORE_MEMBERS = '';
const BEHIND_MEMBERS = '\u007F';

/** Checks names of partitions, indexes and logs. */
export function checkNames(...names: readonly string[]): void {
  for (const name of names) check(NAME_FORM.test(name), 'name', name);
}

export function checkMember(member: string): void {
  check(MEMBER_FORM.test(member), 'index member', member);
}

export function checkKeys(keys: readonly DocumentKey[]): void {
  checkAtMost('documents of one call', keys.length, GET_MANY_MAX);
  for (const { kind, id } of keys) checkNames(kind, id);
}

export function checkLogQuery({ after, limit }: { after: number; limit: number }): void {
  checkLimit(limit);
  checkWhole('log entry number', after, 0, Number.MAX_SAFE_INTEGER);
}

/** Checks a query of an index and says between which entries its answer lies. */
export function boundsOf({ from, to, after, isDescending, limit }: RangeQuery): Bounds {
  checkLimit(limit);
  for (const score of [from ?? 0, to ?? 0]) check(!Number.isNaN(score), 'score', score);
  if (after !== undefined) checkEntry(after);
  const low = { score: from ?? -Infinity, member: BEFORE_MEMBERS };
  const high = { score: to ?? Infinity, member: BEHIND_MEMBERS };
  if (after === undefined) return { low, high };
  return isDescending === true
    ? { low, high: compareEntries(after, high) < 0 ? after : high }
    : { low: compareEntries(after, low) > 0 ? after : low, high };
}

/** The order of an index. Members are ASCII, so that every store sorts them alike. */
export function compareEntries(one: IndexEntry, other: IndexEntry): number {
  if (one.score !== other.score) return one.score < other.score ? -1 : 1;
  if (one.member === other.member) return 0;
  return one.member < other.member ? -1 : 1;
}

export function wholeStep(step: Step): WholeStep {
  const { puts = [], removes = [], adds = [], drops = [], appends = [], clears = [] } = step;
  const { conditions } = step;
  const parts = [conditions, puts, removes, adds, drops, appends, clears];
  checkAtMost(
    'parts of a step',
    sum(parts, part => part.length),
    STEP_PARTS_MAX,
  );
  for (const condition of conditions) checkCondition(condition);
  const texts = [...puts, ...appends].map(({ text }) => text);
  for (const text of texts) {
    checkAtMost('characters of a text', text.length, TEXT_CHARS_MAX);
    // SQLite takes it for the end. JSON never has it.
    if (text.includes('\0')) throw new RangeError('A text must be without U+0000');
  }
  checkAtMost(
    'characters of a step',
    sum(texts, text => text.length),
    STEP_CHARS_MAX,
  );
  const documents = [...puts.map(({ key }) => key), ...removes];
  checkOnce(documents);
  for (const { index, ...entry } of adds) {
    checkNames(index);
    checkEntry(entry);
  }
  for (const { index, member } of drops) {
    checkNames(index);
    checkMember(member);
  }
  for (const { log, keep } of appends) {
    checkNames(log);
    checkWhole('log entries to keep', keep, 1, LOG_KEEP_MAX);
  }
  for (const { log, index } of clears) checkNames(...given(log), ...given(index));
  const topics = new Set([
    ...documents.map(({ kind }) => kind),
    ...[...adds, ...drops].map(({ index }) => index),
    ...appends.map(({ log }) => log),
    ...clears.flatMap(({ log, index }) => [...given(log), ...given(index)]),
  ]);
  // -0 is the same score as 0, but not the same text.
  const normal = adds.map(({ index, member, score }) => ({ index, member, score: score + 0 }));
  return { conditions, puts, removes, adds: normal, drops, appends, clears, topics: [...topics] };
}

function checkCondition(condition: Condition): void {
  if (condition.type === 'version') {
    checkNames(condition.key.kind, condition.key.id);
    checkWhole('version', condition.version, 0, Number.MAX_SAFE_INTEGER);
    return;
  }
  checkNames(condition.index);
  if (condition.type === 'member') checkMember(condition.member);
  else checkWhole('members of an index', condition.count, 0, Number.MAX_SAFE_INTEGER);
}

function checkOnce(keys: readonly DocumentKey[]): void {
  const seen = new Set<string>();
  for (const { kind, id } of keys) {
    checkNames(kind, id);
    const name = `${kind}/${id}`;
    if (seen.has(name)) throw new RangeError(`A step writes the document "${name}" twice`);
    seen.add(name);
  }
}

function checkEntry({ member, score }: IndexEntry): void {
  checkMember(member);
  check(Number.isFinite(score), 'score', score);
}

function checkLimit(limit: number): void {
  checkWhole('limit', limit, 1, RANGE_MAX);
}

function checkWhole(what: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  throw new RangeError(
    `Not a possible ${what}: must be whole, from ${min} to ${max}, got ${value}`,
  );
}

function checkAtMost(what: string, count: number, max: number): void {
  if (count > max) throw new RangeError(`Too many ${what}: at most ${max}, got ${count}`);
}

function check(isGood: boolean, what: string, value: string | number): void {
  if (!isGood) throw new RangeError(`Not a possible ${what}: ${JSON.stringify(value)}`);
}

function given(name: string | undefined): readonly string[] {
  return name === undefined ? [] : [name];
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
