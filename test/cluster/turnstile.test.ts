import { expect, test } from 'vitest';
import { Turnstile } from '../../src/cluster/turnstile.ts';

test('pass() lets so many in at once, the others in their order, and goes on after a failure', async () => {
  const turnstile = new Turnstile({ insideMax: 2, waitingMax: 2 });
  const order: number[] = [];
  let inside = 0;
  let insideMost = 0;
  const tasks = [0, 1, 2, 3].map(nth =>
    turnstile.pass(async () => {
      order.push(nth);
      inside += 1;
      insideMost = Math.max(insideMost, inside);
      await Promise.resolve();
      inside -= 1;
      if (nth === 0) throw new Error('of no consequence to others');
    }),
  );
  expect(turnstile.isFull).toBe(true);
  const results = await Promise.allSettled(tasks);
  expect(results.map(({ status }) => status)).toEqual([
    'rejected',
    'fulfilled',
    'fulfilled',
    'fulfilled',
  ]);
  expect(order).toEqual([0, 1, 2, 3]);
  expect(insideMost).toBe(2);
  expect(turnstile.isFull).toBe(false);
});
