import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DispatchStore, RangeQuery, Step } from '../../src/store/dispatch-store.ts';
import { DispatchModel } from '../support/dispatch-model.ts';

export interface DispatchStoreUnderTest extends AsyncDisposable {
  readonly store: DispatchStore;
  /** Another node's view of the same records; the same one where there is only one node. */
  readonly other: DispatchStore;
}

const KEYS = ['run', 'machine'].flatMap(kind => ['a', 'b'].map(id => ({ kind, id })));
const INDEXES = ['q', 'r'];
const MEMBERS = ['a', 'b', 'c', 'a b'];
const LOGS = ['l', 'm'];
const some = {
  key: fc.constantFrom(...KEYS),
  index: fc.constantFrom(...INDEXES),
  member: fc.constantFrom(...MEMBERS),
  log: fc.constantFrom(...LOGS),
  score: fc.oneof(
    fc.integer({ min: -1, max: 2 }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
  ),
  text: fc.string({ unit: 'grapheme', maxLength: 8 }).map(text => text.replaceAll('\0', '')),
};
const few = { maxLength: 3 };

const anyCondition = fc.oneof(
  fc.record({ type: fc.constant('version'), key: some.key, version: fc.nat(2) }),
  fc.record({ type: fc.constant('index-below'), index: some.index, count: fc.nat(4) }),
  fc.record({
    type: fc.constant('member'),
    index: some.index,
    member: some.member,
    isIn: fc.boolean(),
  }),
);
const documents = fc.uniqueArray(
  fc.record({ key: some.key, text: fc.option(some.text, { nil: undefined }) }),
  {
    ...few,
    selector: ({ key: { kind, id } }) => `${kind}/${id}`,
  },
);
const anyStep: fc.Arbitrary<Step> = fc
  .record({
    conditions: fc.array(anyCondition, { maxLength: 2 }),
    documents,
    adds: fc.array(fc.record({ index: some.index, member: some.member, score: some.score }), few),
    drops: fc.array(fc.record({ index: some.index, member: some.member }), few),
    appends: fc.array(
      fc.record({ log: some.log, text: some.text, keep: fc.integer({ min: 1, max: 4 }) }),
      few,
    ),
    clears: fc.array(fc.oneof(fc.record({ index: some.index }), fc.record({ log: some.log })), {
      maxLength: 1,
    }),
  })
  .map(({ documents: written, conditions, adds, drops, appends, clears }) => ({
    conditions,
    adds,
    drops,
    appends,
    clears,
    puts: written.flatMap(one =>
      one.text === undefined ? [] : [{ key: one.key, text: one.text }],
    ),
    removes: written.flatMap(one => (one.text === undefined ? [one.key] : [])),
  }));
const anyRange: fc.Arbitrary<RangeQuery> = fc.record(
  {
    from: some.score,
    to: some.score,
    after: fc.record({ member: some.member, score: some.score }),
    isDescending: fc.boolean(),
    limit: fc.integer({ min: 1, max: 5 }),
  },
  { requiredKeys: ['limit'] },
);
const anyQueries = fc.record({
  ranges: fc.array(anyRange, { minLength: 3, maxLength: 6 }),
  logs: fc.array(fc.record({ after: fc.nat(12), limit: fc.integer({ min: 1, max: 5 }) }), {
    minLength: 1,
    maxLength: 3,
  }),
});

/** Any history of steps leaves a store as it leaves the model. */
export function describeDispatchHistories(
  name: string,
  open: () => Promise<DispatchStoreUnderTest>,
  historiesMax = 100,
): void {
  describe(`${name} as a DispatchStore: histories`, () => {
    test('any history of steps leaves what the model says', async () => {
      await using it = await open();
      let histories = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.array(anyStep, { maxLength: 12 }),
          anyQueries,
          async (steps, queries) => {
            histories += 1;
            const partition = `history${histories}`;
            const model = new DispatchModel();
            for (const [i, step] of steps.entries()) {
              const store = i % 2 === 0 ? it.store : it.other;
              expect(await store.step(partition, step)).toEqual(model.step(step));
            }
            const found = await it.store.getMany(partition, KEYS);
            expect(found).toEqual(KEYS.map(key => model.get(key)));
            for (const index of INDEXES) {
              expect(await it.other.count(partition, index)).toBe(model.count(index));
              for (const query of queries.ranges) {
                const entries = await it.other.range(partition, index, query);
                expect(entries).toEqual(model.range(index, query));
              }
              for (const member of MEMBERS) {
                const score = await it.store.score(partition, index, member);
                expect(score).toBe(model.score(index, member));
              }
            }
            for (const log of LOGS) {
              for (const query of queries.logs) {
                expect(await it.other.log(partition, log, query)).toEqual(model.log(log, query));
              }
            }
          },
        ),
        { numRuns: historiesMax },
      );
    });
  });
}
