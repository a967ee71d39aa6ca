import fc from 'fast-check';
import { expect, test } from 'vitest';
import { JOURNAL_KEEP_MS } from '../../src/jobs/limits.ts';
import { JournalState, type JournalLine } from '../../src/machine/journal-state.ts';

const about = (runId: string, fence: number) => ({ runId, attempt: fence, fence });
const accepted = (runId: string, fence: number): JournalLine => ({
  type: 'ACCEPTED',
  ...about(runId, fence),
  mode: 'unattended',
  jobRef: 'job',
  atMs: 0,
});
const launched = (runId: string, fence: number): JournalLine => ({
  type: 'LAUNCHED',
  ...about(runId, fence),
  executor: { pid: 1, bootId: 'b', startTicks: 2 },
  accountName: 'ann',
  atMs: 1,
});

const lines = fc.oneof(
  fc
    .record({ run: fc.constantFrom('a', 'b'), fence: fc.integer({ min: 1, max: 3 }) })
    .chain(({ run, fence }) =>
      fc.constantFrom<JournalLine>(
        accepted(run, fence),
        { type: 'GRANTED', ...about(run, fence) },
        launched(run, fence),
        { type: 'RESULT', ...about(run, fence) },
        { type: 'OVER', ...about(run, fence), atMs: 5 },
      ),
    ),
  fc.record({
    type: fc.constant('VERSION' as const),
    connectionId: fc.constantFrom('c', 'd'),
    version: fc.integer({ min: 1, max: 9 }),
  }),
);

function stateOf(history: readonly JournalLine[]): JournalState {
  const state = new JournalState();
  for (const line of history) state.take(line);
  return state;
}

test('lines() add up to the same entries, fences, versions and what is over', () => {
  fc.assert(
    fc.property(fc.array(lines, { maxLength: 30 }), history => {
      const state = stateOf(history);
      const again = stateOf(state.lines(10));
      expect(again.entries()).toEqual(state.entries());
      for (const runId of ['a', 'b']) {
        const entry = state.entries().find(one => one.runId === runId);
        if (entry !== undefined) expect(again.fenceOf(runId)).toBeGreaterThanOrEqual(entry.fence);
        for (const fence of [1, 2, 3]) {
          expect(again.isOver(about(runId, fence))).toBe(state.isOver(about(runId, fence)));
        }
      }
      for (const id of ['c', 'd']) expect(again.versionOf(id)).toBe(state.versionOf(id));
    }),
  );
});

test('take() moves an attempt forward only, and nothing brings back what is over', () => {
  const history = [
    accepted('a', 1),
    launched('a', 1),
    { type: 'GRANTED', ...about('a', 1) } as const,
  ];
  const state = stateOf(history);
  expect(state.entry(about('a', 1))?.state).toBe('LAUNCHED');
  state.take({ type: 'OVER', ...about('a', 1), atMs: 5 });
  expect(state.take(accepted('a', 1))).toBe(false);
  expect(state.entries()).toEqual([]);
  expect(state.fenceOf('a')).toBe(1);
});

test('lines() forget what was over for longer than it is kept', () => {
  const state = stateOf([accepted('a', 1), { type: 'OVER', ...about('a', 1), atMs: 5 }]);
  expect(state.lines(5 + JOURNAL_KEEP_MS)).toHaveLength(1);
  expect(state.lines(6 + JOURNAL_KEEP_MS)).toEqual([]);
});
