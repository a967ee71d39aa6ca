import { expect, test } from 'vitest';
import {
  afterEnd,
  ENDS_IN_A_ROW_MAX,
  isHopeless,
  NO_RESTARTS,
  restartWaitMs,
} from '../../src/workers/restarts.ts';

test('ends in quick succession wait longer each time, then are hopeless', () => {
  let restarts = NO_RESTARTS;
  const waits: number[] = [];
  while (!isHopeless(restarts)) {
    restarts = afterEnd(restarts, 500);
    waits.push(restartWaitMs(restarts, 0));
  }
  expect(restarts).toEqual({ total: ENDS_IN_A_ROW_MAX, inARow: ENDS_IN_A_ROW_MAX });
  expect(waits).toEqual([200, 400, 800, 1_600, 3_200]);
});

test('an end after a long run begins a new row', () => {
  const often = { total: 9, inARow: 4 };
  expect(afterEnd(often, 10_000)).toEqual({ total: 10, inARow: 1 });
  expect(afterEnd(often, 9_999)).toEqual({ total: 10, inARow: 5 });
});

test('jitter takes away up to half of a wait, which never exceeds its limit', () => {
  expect(restartWaitMs({ total: 1, inARow: 1 }, 1)).toBe(100);
  expect(restartWaitMs({ total: 99, inARow: 99 }, 0)).toBe(5_000);
});
