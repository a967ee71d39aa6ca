import { describe, expect, test } from 'vitest';
import {
  GET_MANY_MAX,
  LOG_KEEP_MAX,
  RANGE_MAX,
  STEP_CHARS_MAX,
  STEP_PARTS_MAX,
  TEXT_CHARS_MAX,
  type DispatchStore,
  type DocumentKey,
  type IndexEntry,
  type LogEntry,
  type RangeQuery,
  type Step,
} from '../../src/store/dispatch-store.ts';
import { StoreError } from '../../src/store/relay-store.ts';
import { until } from '../support/within.ts';
import { describeDispatchHistories, type DispatchStoreUnderTest } from './dispatch-histories.ts';

const P = 'tests';
const DONE = { type: 'done' };
const ALL = { limit: RANGE_MAX };
const RUN = { kind: 'run', id: 'a' };

function refused(condition: number) {
  return { type: 'refused', condition };
}

function keyOf(id: string): DocumentKey {
  return { kind: 'run', id };
}

/** A step without conditions unless some are given. */
function stepOf(parts: Partial<Step>): Step {
  return { conditions: [], ...parts };
}

/** Two slots there are. */
function takeSlot(member: string): Step {
  return {
    conditions: [{ type: 'index-below', index: 'slots:m', count: 2 }],
    adds: [{ index: 'slots:m', member, score: 1 }],
  };
}

function wantsTag(member: string, isIn: boolean): Step {
  return { conditions: [{ type: 'member', index: 'tags', member, isIn }] };
}

function membersOf(entries: readonly IndexEntry[]): readonly string[] {
  return entries.map(({ member }) => member);
}

async function addAll(store: DispatchStore, index: string, entries: readonly IndexEntry[]) {
  for (let i = 0; i < entries.length; i += STEP_PARTS_MAX) {
    const adds = entries
      .slice(i, i + STEP_PARTS_MAX)
      .map(({ member, score }) => ({ index, member, score }));
    expect(await store.step(P, stepOf({ adds }))).toEqual(DONE);
  }
}

async function appendAll(store: DispatchStore, log: string, texts: readonly string[], keep = 100) {
  for (const text of texts) await store.step(P, stepOf({ appends: [{ log, text, keep }] }));
}

/** What every DispatchStore promises; run once per implementation. */
export function describeDispatchStore(
  name: string,
  open: () => Promise<DispatchStoreUnderTest>,
  options: { readonly historiesMax?: number } = {},
): void {
  describeDispatchHistories(name, open, options.historiesMax);

  describe(`${name} as a DispatchStore: documents`, () => {
    test('get() gives back what step() put, whole, with a version that goes up by one', async () => {
      await using it = await open();
      const text = `{"name": "ä 'x'\n\u2028 \u{1F600} \u007F"}`;
      expect(await it.store.get(P, RUN)).toBeUndefined();
      expect(await it.store.step(P, stepOf({ puts: [{ key: RUN, text }] }))).toEqual(DONE);
      expect(await it.other.get(P, RUN)).toEqual({ key: RUN, version: 1, text });
      await it.other.step(P, stepOf({ puts: [{ key: RUN, text: '{}' }] }));
      expect(await it.store.get(P, RUN)).toEqual({ key: RUN, version: 2, text: '{}' });
    });

    test('step() removes documents; one that is made again begins with version 1', async () => {
      await using it = await open();
      await it.store.step(P, stepOf({ puts: [{ key: RUN, text: '1' }] }));
      await it.store.step(P, stepOf({ puts: [{ key: RUN, text: '2' }] }));
      expect(await it.store.step(P, stepOf({ removes: [RUN] }))).toEqual(DONE);
      expect(await it.other.get(P, RUN)).toBeUndefined();
      expect(await it.store.step(P, stepOf({ removes: [RUN] }))).toEqual(DONE);
      await it.store.step(P, stepOf({ puts: [{ key: RUN, text: '3' }] }));
      expect(await it.other.get(P, RUN)).toEqual({ key: RUN, version: 1, text: '3' });
    });

    test('kinds, ids and partitions are kept apart, whatever is in them', async () => {
      await using it = await open();
      const keys = ['a', 'a:b', 'a.b~c_d-e'].flatMap(kind =>
        ['c', 'b:c', 'C'].map(id => ({ kind, id })),
      );
      for (const partition of [P, '~', 'tests:run', 'Tests']) {
        for (const key of keys) {
          const text = `${partition} ${key.kind} ${key.id}`;
          const conditions = [{ type: 'version' as const, key, version: 0 }];
          expect(await it.store.step(partition, { conditions, puts: [{ key, text }] })).toEqual(
            DONE,
          );
        }
      }
      const found = await it.other.getMany('~', keys);
      expect(found).toEqual(
        keys.map(key => ({ key, version: 1, text: `~ ${key.kind} ${key.id}` })),
      );
    });

    test('getMany() answers in the order asked, also for what is not there', async () => {
      await using it = await open();
      const puts = ['a', 'b'].map(id => ({ key: keyOf(id), text: id }));
      await it.store.step(P, stepOf({ puts }));
      const found = await it.other.getMany(P, [keyOf('b'), keyOf('x'), keyOf('a'), keyOf('b')]);
      expect(found.map(document => document?.text)).toEqual(['b', undefined, 'a', 'b']);
      expect(await it.store.getMany(P, [])).toEqual([]);
      const many = Array.from({ length: GET_MANY_MAX }, (_, i) => keyOf(`${i}`));
      expect(await it.store.getMany(P, many)).toHaveLength(GET_MANY_MAX);
    });

    test('takes texts up to the limit', async () => {
      await using it = await open();
      const text = 'ü'.repeat(TEXT_CHARS_MAX);
      await it.store.step(P, stepOf({ puts: [{ key: RUN, text }] }));
      const found = await it.other.get(P, RUN);
      expect(found?.text === text).toBe(true);
    });
  });

  describe(`${name} as a DispatchStore: conditions`, () => {
    test('step() compares versions, 0 for none', async () => {
      await using it = await open();
      const at = (version: number): Step => ({
        conditions: [{ type: 'version', key: RUN, version }],
        puts: [{ key: RUN, text: `${version}` }],
      });
      expect(await it.store.step(P, at(1))).toEqual(refused(0));
      expect(await it.store.step(P, at(0))).toEqual(DONE);
      expect(await it.other.step(P, at(0))).toEqual(refused(0));
      expect(await it.other.step(P, at(2))).toEqual(refused(0));
      expect(await it.other.step(P, at(1))).toEqual(DONE);
      expect(await it.store.get(P, RUN)).toMatchObject({ version: 2, text: '1' });
    });

    test('step() compares the count of an index', async () => {
      await using it = await open();
      expect(await it.store.step(P, takeSlot('a'))).toEqual(DONE);
      expect(await it.other.step(P, takeSlot('b'))).toEqual(DONE);
      expect(await it.store.step(P, takeSlot('c'))).toEqual(refused(0));
      expect(await it.store.step(P, takeSlot('a'))).toEqual(refused(0));
      await it.store.step(P, stepOf({ drops: [{ index: 'slots:m', member: 'a' }] }));
      expect(await it.other.step(P, takeSlot('c'))).toEqual(DONE);
      const none = { type: 'index-below' as const, index: 'nobody', count: 0 };
      expect(await it.store.step(P, { conditions: [none] })).toEqual(refused(0));
    });

    test('step() compares membership', async () => {
      await using it = await open();
      await it.store.step(P, stepOf({ adds: [{ index: 'tags', member: 'a', score: 0 }] }));
      expect(await it.other.step(P, wantsTag('a', true))).toEqual(DONE);
      expect(await it.other.step(P, wantsTag('a', false))).toEqual(refused(0));
      expect(await it.other.step(P, wantsTag('b', true))).toEqual(refused(0));
      expect(await it.other.step(P, wantsTag('b', false))).toEqual(DONE);
    });

    test('step() names the first condition that does not hold, and changes nothing then', async () => {
      await using it = await open();
      const index = 'q';
      await it.store.step(P, {
        conditions: [],
        puts: [RUN, keyOf('b')].map(key => ({ key, text: 'before' })),
        adds: [{ index, member: 'a', score: 1 }],
        appends: [{ log: 'events', text: 'before', keep: 10 }],
      });
      const outcome = await it.other.step(P, {
        conditions: [
          { type: 'version', key: RUN, version: 1 },
          { type: 'member', index, member: 'a', isIn: true },
          { type: 'index-below', index, count: 1 },
          { type: 'version', key: RUN, version: 9 },
        ],
        puts: [RUN, keyOf('c')].map(key => ({ key, text: 'after' })),
        removes: [keyOf('b')],
        adds: [
          { index, member: 'a', score: 2 },
          { index, member: 'b', score: 2 },
        ],
        drops: [{ index, member: 'a' }],
        appends: [{ log: 'events', text: 'after', keep: 1 }],
        clears: [{ index, log: 'events' }],
      });
      expect(outcome).toEqual(refused(2));
      const found = await it.store.getMany(P, [RUN, keyOf('b'), keyOf('c')]);
      expect(found.map(document => document?.text)).toEqual(['before', 'before', undefined]);
      expect(await it.store.range(P, index, ALL)).toEqual([{ member: 'a', score: 1 }]);
      expect(await it.store.log(P, 'events', { after: 0, limit: 9 })).toEqual({
        first: 1,
        entries: [{ number: 1, text: 'before' }],
      });
    });

    test('step() without conditions and parts is done', async () => {
      await using it = await open();
      expect(await it.store.step(P, { conditions: [] })).toEqual(DONE);
    });

    test('step() lets one of many win that compare the same version', async () => {
      await using it = await open();
      const outcomes = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          (i % 2 === 0 ? it.store : it.other).step(P, {
            conditions: [{ type: 'version', key: RUN, version: 0 }],
            puts: [{ key: RUN, text: `${i}` }],
            appends: [{ log: 'events', text: `${i}`, keep: 100 }],
          }),
        ),
      );
      expect(outcomes.filter(({ type }) => type === 'done')).toHaveLength(1);
      const winner = outcomes.findIndex(({ type }) => type === 'done');
      expect(await it.store.get(P, RUN)).toEqual({ key: RUN, version: 1, text: `${winner}` });
      const { entries } = await it.other.log(P, 'events', { after: 0, limit: 9 });
      expect(entries).toEqual([{ number: 1, text: `${winner}` }]);
    });

    test('step() never lets more in than an index may have, however many try', async () => {
      await using it = await open();
      const outcomes = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          (i % 2 === 0 ? it.store : it.other).step(P, {
            conditions: [{ type: 'index-below', index: 'slots', count: 7 }],
            adds: [{ index: 'slots', member: `${i}`, score: i }],
          }),
        ),
      );
      expect(outcomes.filter(({ type }) => type === 'done')).toHaveLength(7);
      expect(await it.store.count(P, 'slots')).toBe(7);
    });

    test('step() loses no increment of many that read, compare and try again', async () => {
      await using it = await open();
      await it.store.step(P, stepOf({ puts: [{ key: RUN, text: '0' }] }));
      const increment = async (store: DispatchStore): Promise<void> => {
        for (;;) {
          const { version = 0, text = '' } = (await store.get(P, RUN)) ?? {};
          const conditions = [{ type: 'version' as const, key: RUN, version }];
          const puts = [{ key: RUN, text: `${Number(text) + 1}` }];
          if ((await store.step(P, { conditions, puts })).type === 'done') return;
        }
      };
      await Promise.all(
        Array.from({ length: 12 }, (_, i) => increment(i % 2 === 0 ? it.store : it.other)),
      );
      expect(await it.store.get(P, RUN)).toMatchObject({ version: 13, text: '12' });
    });
  });

  describe(`${name} as a DispatchStore: indexes`, () => {
    test('range() is sorted by score, then by member', async () => {
      await using it = await open();
      const entries = [
        ...['b', 'a', 'B', 'a!', 'a b', '10', '9', '~'].map(member => ({ member, score: 5 })),
        { member: 'low', score: -(2 ** 43) },
        { member: 'fraction', score: 0.5 },
        { member: 'high', score: 2 ** 53 },
        { member: 'nearly', score: 2 ** 53 - 1 },
        { member: 'tiny', score: 1e-300 },
        { member: 'huge', score: -1e300 },
      ];
      await addAll(it.store, 'q', entries);
      const sorted = await it.other.range(P, 'q', ALL);
      expect(membersOf(sorted).join('|')).toBe(
        'huge|low|tiny|fraction|10|9|B|a|a b|a!|b|~|nearly|high',
      );
      expect(sorted.toSorted(byMember)).toEqual(entries.toSorted(byMember));
      const reversed = await it.other.range(P, 'q', { ...ALL, isDescending: true });
      expect(reversed).toEqual(sorted.toReversed());
    });

    test('range() gives scores between two, both included, in both directions', async () => {
      await using it = await open();
      const entries = Array.from({ length: 10 }, (_, score) => ({ member: `m${score}`, score }));
      await addAll(it.store, 'q', entries);
      const scores = async (query: Omit<RangeQuery, 'limit'>, limit = 9): Promise<string> => {
        const found = await it.other.range(P, 'q', { ...query, limit });
        return found.map(({ score }) => score).join('');
      };
      expect(await scores({ from: 3, to: 6 })).toBe('3456');
      expect(await scores({ from: 3, to: 6, isDescending: true })).toBe('6543');
      expect(await scores({ from: 3, to: 6 }, 2)).toBe('34');
      expect(await scores({ from: 3, to: 6, isDescending: true }, 2)).toBe('65');
      expect(await scores({ to: 2.5 })).toBe('012');
      expect(await scores({ from: 7.5, to: Infinity })).toBe('89');
      expect(await scores({ from: 6, to: 3 })).toBe('');
      expect(await scores({ from: 100 })).toBe('');
      expect(await it.store.range(P, 'other', ALL)).toEqual([]);
    });

    test('range() goes on behind an entry, also when that has gone or moved', async () => {
      await using it = await open();
      const entries = ['a', 'b', 'c', 'd', 'e'].map((member, i) => ({
        member,
        score: i < 1 ? 0 : 7,
      }));
      await addAll(it.store, 'q', entries);
      const behind = async (member: string, score: number, isDescending = false): Promise<string> =>
        membersOf(
          await it.other.range(P, 'q', { after: { member, score }, isDescending, limit: 3 }),
        ).join('');
      expect(await behind('a', 0)).toBe('bcd');
      expect(await behind('c', 7)).toBe('de');
      expect(await behind('e', 7)).toBe('');
      expect(await behind('e', 7, true)).toBe('dcb');
      expect(await behind('b', 7, true)).toBe('a');
      expect(await behind('a', 0, true)).toBe('');
      await it.store.step(P, {
        conditions: [],
        drops: [{ index: 'q', member: 'c' }],
        adds: [{ index: 'q', member: 'd', score: 1 }],
      });
      expect(await behind('c', 7)).toBe('e');
      expect(await behind('c', 7, true)).toBe('bda');
      expect(await behind('d', 7)).toBe('e');
    });

    test('range() gives a long index in parts, each entry once, within bounds', async () => {
      await using it = await open();
      // Three scores, so that most neighbours differ by their members only.
      const entries = Array.from({ length: 250 }, (_, i) => ({
        member: `m${(i * 7_919) % 1_000}`,
        score: i % 3,
      }));
      await addAll(it.store, 'q', entries);
      for (const isDescending of [false, true]) {
        const seen: IndexEntry[] = [];
        let after: IndexEntry | undefined;
        do {
          const query = { from: 1, to: 2, isDescending, limit: 40 };
          const part = await it.other.range(
            P,
            'q',
            after === undefined ? query : { ...query, after },
          );
          after = part.at(-1);
          seen.push(...part);
        } while (after !== undefined);
        const whole = await it.other.range(P, 'q', { ...ALL, from: 1, isDescending });
        expect(seen).toEqual(whole);
        expect(seen).toHaveLength(entries.filter(({ score }) => score > 0).length);
      }
    });

    test('step() moves a member to another score, count() and score() follow', async () => {
      await using it = await open();
      await addAll(it.store, 'q', [
        { member: 'a', score: 1 },
        { member: 'b', score: 2 },
        { member: 'a', score: 3 },
      ]);
      expect(membersOf(await it.other.range(P, 'q', ALL))).toEqual(['b', 'a']);
      expect(await it.other.count(P, 'q')).toBe(2);
      expect(await it.other.score(P, 'q', 'a')).toBe(3);
      expect(await it.other.score(P, 'q', 'x')).toBeUndefined();
      expect(await it.other.score(P, 'x', 'a')).toBeUndefined();
      await it.other.step(
        P,
        stepOf({ drops: ['a', 'b', 'x'].map(member => ({ index: 'q', member })) }),
      );
      expect(await it.store.count(P, 'q')).toBe(0);
      expect(await it.store.range(P, 'q', ALL)).toEqual([]);
    });

    test('step() takes -0 for 0', async () => {
      await using it = await open();
      await addAll(it.store, 'q', [
        { member: 'b', score: -0 },
        { member: 'a', score: 0 },
      ]);
      expect(await it.other.score(P, 'q', 'b')).toBe(0);
      const behind = { after: { member: 'a', score: -0 }, limit: 9 };
      expect(await it.other.range(P, 'q', behind)).toEqual([{ member: 'b', score: 0 }]);
    });

    test('step() clears first, so that it can replace an index', async () => {
      await using it = await open();
      await addAll(it.store, 'q', [
        { member: 'a', score: 1 },
        { member: 'b', score: 2 },
      ]);
      await it.store.step(P, {
        conditions: [],
        clears: [{ index: 'q' }, { index: 'not-there' }],
        drops: [{ index: 'q', member: 'c' }],
        adds: [{ index: 'q', member: 'c', score: 3 }],
      });
      expect(await it.other.range(P, 'q', ALL)).toEqual([{ member: 'c', score: 3 }]);
      expect(await it.other.count(P, 'q')).toBe(1);
      await it.store.step(P, stepOf({ clears: [{ index: 'q' }] }));
      expect(await it.other.count(P, 'q')).toBe(0);
    });
  });

  describe(`${name} as a DispatchStore: logs`, () => {
    test('log() gives entries behind a number, oldest first', async () => {
      await using it = await open();
      expect(await it.store.log(P, 'events', { after: 0, limit: 9 })).toEqual({
        first: 0,
        entries: [],
      });
      await appendAll(it.store, 'events', ['a', 'ü "b"\n', '', 'd']);
      const all = await it.other.log(P, 'events', { after: 0, limit: 9 });
      expect(all).toEqual({ first: 1, entries: numbered(1, ['a', 'ü "b"\n', '', 'd']) });
      const part = await it.other.log(P, 'events', { after: 1, limit: 2 });
      expect(part).toEqual({ first: 1, entries: numbered(2, ['ü "b"\n', '']) });
      const end = await it.other.log(P, 'events', { after: 4, limit: 9 });
      expect(end).toEqual({ first: 1, entries: [] });
      const beyond = await it.other.log(P, 'events', { after: 70, limit: 9 });
      expect(beyond).toEqual({ first: 1, entries: [] });
    });

    test('a log keeps its last entries and goes on counting', async () => {
      await using it = await open();
      await appendAll(it.store, 'events', ['a', 'b', 'c', 'd', 'e'], 3);
      const kept = await it.other.log(P, 'events', { after: 0, limit: 9 });
      expect(kept).toEqual({ first: 3, entries: numbered(3, ['c', 'd', 'e']) });
      await appendAll(it.store, 'events', ['f'], 1);
      const last = await it.other.log(P, 'events', { after: 2, limit: 9 });
      expect(last).toEqual({ first: 6, entries: numbered(6, ['f']) });
      await appendAll(it.store, 'events', ['g', 'h'], 100);
      expect(await it.other.log(P, 'events', { after: 6, limit: 1 })).toEqual({
        first: 6,
        entries: numbered(7, ['g']),
      });
    });

    test('step() appends several entries in their order, and clears first', async () => {
      await using it = await open();
      const appends = ['a', 'b', 'c'].map(text => ({ log: 'events', text, keep: 2 }));
      await it.store.step(P, stepOf({ appends }));
      await it.store.step(P, stepOf({ appends }));
      const two = await it.other.log(P, 'events', { after: 0, limit: 9 });
      expect(two).toEqual({ first: 5, entries: numbered(5, ['b', 'c']) });
      await it.store.step(P, stepOf({ appends, clears: [{ log: 'events' }, { log: 'none' }] }));
      const anew = await it.other.log(P, 'events', { after: 0, limit: 9 });
      expect(anew).toEqual({ first: 2, entries: numbered(2, ['b', 'c']) });
      await it.store.step(P, stepOf({ clears: [{ log: 'events' }] }));
      expect((await it.other.log(P, 'events', { after: 0, limit: 9 })).first).toBe(0);
    });

    test('an index, a log and a kind of one name have nothing to do with each other', async () => {
      await using it = await open();
      await it.store.step(P, {
        conditions: [],
        puts: [{ key: { kind: 'x', id: 'x' }, text: 'x' }],
        adds: [{ index: 'x', member: 'x', score: 1 }],
        appends: [{ log: 'x', text: 'x', keep: 9 }],
      });
      await it.store.step(P, stepOf({ clears: [{ index: 'x' }] }));
      expect(await it.other.count(P, 'x')).toBe(0);
      expect((await it.other.log(P, 'x', { after: 0, limit: 1 })).first).toBe(1);
      await it.store.step(P, stepOf({ clears: [{ log: 'x' }] }));
      expect((await it.other.log(P, 'x', { after: 0, limit: 1 })).first).toBe(0);
      expect((await it.other.get(P, { kind: 'x', id: 'x' }))?.version).toBe(1);
    });
  });

  describe(`${name} as a DispatchStore: watching and closing`, () => {
    test('watch() tells which kinds, indexes and logs of which partition were touched', async () => {
      await using it = await open();
      for (const store of new Set([it.store, it.other])) {
        const told = new Set<string>();
        const watching = await watchReady(store, (partition, topics) => {
          for (const topic of topics) told.add(`${partition} ${topic}`);
        });
        await it.store.step(P, {
          conditions: [{ type: 'index-below', index: 'compared', count: 9 }],
          puts: [{ key: keyOf('a'), text: '1' }],
          removes: [{ kind: 'code', id: 'a' }],
          adds: [{ index: 'q:machine:m', member: 'a', score: 1 }],
          drops: [{ index: 'slots:m', member: 'a' }],
          appends: [{ log: 'events:a', text: 'x', keep: 9 }],
          clears: [{ log: 'log:a', index: 'tags' }],
        });
        await it.store.step('~', stepOf({ puts: [{ key: { kind: 'user', id: 'a' }, text: '1' }] }));
        await until('all was told', () => told.size >= 8);
        watching();
        const touched = ['run', 'code', 'q:machine:m', 'slots:m', 'events:a', 'log:a', 'tags'];
        const all = [...touched.map(topic => `${P} ${topic}`), '~ user'];
        expect([...told].toSorted()).toEqual(all.toSorted());
      }
    });

    test('watch() is silent about refused steps, and after its end', async () => {
      await using it = await open();
      const told: string[] = [];
      const ended = await watchReady(it.other, (_partition, topics) => told.push(...topics));
      const watching = await watchReady(it.other, (_partition, topics) => told.push(...topics));
      ended();
      await it.store.step(P, {
        conditions: [{ type: 'version', key: RUN, version: 5 }],
        puts: [{ key: { kind: 'refused', id: 'a' }, text: '' }],
      });
      await it.store.step(P, stepOf({ puts: [{ key: { kind: 'taken', id: 'a' }, text: '' }] }));
      await until('it is told', () => told.length > 0);
      watching();
      expect(told).toEqual(['taken']);
    });

    test('close() ends everything, twice too', async () => {
      await using it = await open();
      await it.store.close();
      await it.store.close();
      await expect(it.store.get(P, RUN)).rejects.toThrow(StoreError);
      await expect(it.store.getMany(P, [RUN])).rejects.toThrow(StoreError);
      await expect(it.store.range(P, 'q', ALL)).rejects.toThrow(StoreError);
      await expect(it.store.count(P, 'q')).rejects.toThrow(StoreError);
      await expect(it.store.score(P, 'q', 'a')).rejects.toThrow(StoreError);
      await expect(it.store.log(P, 'l', { after: 0, limit: 1 })).rejects.toThrow(StoreError);
      await expect(it.store.step(P, { conditions: [] })).rejects.toThrow(StoreError);
    });
  });

  describe(`${name} as a DispatchStore: limits`, () => {
    test('names, members and numbers that cannot be are refused with RangeError', async () => {
      await using it = await open();
      const { store } = it;
      const calls: (() => Promise<unknown>)[] = [
        ...['', 'a b', 'a/b', 'a{b', 'ä', 'a\n', 'x'.repeat(257)].flatMap(bad => [
          () => store.get(bad, RUN),
          () => store.get(P, { kind: bad, id: 'a' }),
          () => store.getMany(P, [{ kind: 'run', id: bad }]),
          () => store.range(P, bad, ALL),
          () => store.count(P, bad),
          () => store.score(P, bad, 'a'),
          () => store.log(P, bad, { after: 0, limit: 1 }),
          () => store.step(bad, { conditions: [] }),
          () => store.step(P, stepOf({ puts: [{ key: { kind: 'run', id: bad }, text: '' }] })),
          () => store.step(P, stepOf({ removes: [{ kind: bad, id: 'a' }] })),
          () => store.step(P, stepOf({ adds: [{ index: bad, member: 'a', score: 0 }] })),
          () => store.step(P, stepOf({ appends: [{ log: bad, text: '', keep: 1 }] })),
          () => store.step(P, stepOf({ clears: [{ log: bad }] })),
          () => store.step(P, stepOf({ clears: [{ index: bad }] })),
        ]),
        ...['', 'ä', 'a\n', '\u0000', 'x'.repeat(513)].flatMap(bad => [
          () => store.score(P, 'q', bad),
          () => store.range(P, 'q', { after: { member: bad, score: 0 }, limit: 1 }),
          () => store.step(P, stepOf({ adds: [{ index: 'q', member: bad, score: 0 }] })),
          () => store.step(P, stepOf({ drops: [{ index: 'q', member: bad }] })),
          () =>
            store.step(P, {
              conditions: [{ type: 'member', index: 'q', member: bad, isIn: false }],
            }),
        ]),
        ...[NaN, Infinity, -Infinity].map(
          score => () => store.step(P, stepOf({ adds: [{ index: 'q', member: 'a', score }] })),
        ),
        () => store.range(P, 'q', { from: NaN, limit: 1 }),
        () => store.range(P, 'q', { after: { member: 'a', score: NaN }, limit: 1 }),
        ...[0, -1, 1.5, RANGE_MAX + 1].flatMap(limit => [
          () => store.range(P, 'q', { limit }),
          () => store.log(P, 'l', { after: 0, limit }),
        ]),
        ...[-1, 0.5].flatMap(bad => [
          () => store.log(P, 'l', { after: bad, limit: 1 }),
          () => store.step(P, { conditions: [{ type: 'version', key: RUN, version: bad }] }),
          () => store.step(P, { conditions: [{ type: 'index-below', index: 'q', count: bad }] }),
        ]),
        () => store.step(P, stepOf({ puts: [{ key: RUN, text: 'a\0b' }] })),
        () => store.step(P, stepOf({ appends: [{ log: 'l', text: '\0', keep: 1 }] })),
        ...[0, 1.5, LOG_KEEP_MAX + 1].map(
          keep => () => store.step(P, stepOf({ appends: [{ log: 'l', text: '', keep }] })),
        ),
      ];
      for (const call of calls) await expect(call()).rejects.toThrow(RangeError);
    });

    test('more than there may be is refused with RangeError that names the limit', async () => {
      await using it = await open();
      const keys = Array.from({ length: GET_MANY_MAX + 1 }, (_, i) => keyOf(`${i}`));
      await expect(it.store.getMany(P, keys)).rejects.toThrow(`at most ${GET_MANY_MAX}`);
      const condition = { type: 'index-below' as const, index: 'q', count: 1 };
      const step = {
        conditions: Array.from({ length: STEP_PARTS_MAX / 2 }, () => condition),
        removes: keys.slice(0, STEP_PARTS_MAX / 2),
      };
      expect(await it.store.step(P, step)).toEqual(DONE);
      const more = { ...step, drops: [{ index: 'q', member: 'a' }] };
      await expect(it.store.step(P, more)).rejects.toThrow(`at most ${STEP_PARTS_MAX}`);
      const long = 'x'.repeat(TEXT_CHARS_MAX + 1);
      const put = it.store.step(P, stepOf({ puts: [{ key: RUN, text: long }] }));
      await expect(put).rejects.toThrow(`at most ${TEXT_CHARS_MAX}`);
      const parts = Array.from({ length: STEP_CHARS_MAX / TEXT_CHARS_MAX + 1 }, (_, i) => ({
        log: `${i}`,
        text: long.slice(1),
        keep: 1,
      }));
      const big = it.store.step(P, stepOf({ appends: parts }));
      await expect(big).rejects.toThrow(`at most ${STEP_CHARS_MAX}`);
      await expect(big).rejects.toThrow(RangeError);
    });

    test('a document may be written once in a step, and nothing is done otherwise', async () => {
      await using it = await open();
      const puts = [keyOf('b'), RUN].map(key => ({ key, text: '' }));
      const twice = it.store.step(P, stepOf({ puts, removes: [RUN] }));
      await expect(twice).rejects.toThrow(/"run\/a" twice/);
      await expect(twice).rejects.toThrow(RangeError);
      expect(await it.other.get(P, keyOf('b'))).toBeUndefined();
    });
  });
}

/** A watch whose store has begun to tell; only shared ones need a moment. */
async function watchReady(
  store: DispatchStore,
  onChange: (partition: string, topics: readonly string[]) => void,
): Promise<() => void> {
  let gaps = 0;
  const end = store.watch(onChange, () => (gaps += 1));
  if (store.isShared) await until('the watch has begun', () => gaps > 0);
  return end;
}

function byMember(one: IndexEntry, other: IndexEntry): number {
  return one.member < other.member ? -1 : 1;
}

function numbered(first: number, texts: readonly string[]): readonly LogEntry[] {
  return texts.map((text, i) => ({ number: first + i, text }));
}
