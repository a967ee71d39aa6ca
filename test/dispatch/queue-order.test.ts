import { expect, test } from 'vitest';
import { queueScore, topScore } from '../../src/dispatch/queue-order.ts';

test('queueScore() puts high before normal, and the older first, exactly', () => {
  const now = 4_000_000_000_000;
  const scores = [
    queueScore('high', now),
    queueScore('high', now + 1),
    queueScore('normal', 0),
    queueScore('normal', now),
    queueScore('normal', now + 1),
  ];
  expect(scores).toEqual(scores.toSorted((one, other) => one - other));
  expect(scores.every(score => Number.isSafeInteger(score))).toBe(true);
  expect(new Set(scores).size).toBe(scores.length);
});

test('topScore() is before all others, the last one moved first', () => {
  expect(topScore(undefined)).toBeLessThan(queueScore('high', 0));
  expect(topScore(queueScore('high', 5))).toBe(-1);
  expect(topScore(-7)).toBe(-8);
});
