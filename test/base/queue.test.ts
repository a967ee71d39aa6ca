import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Queue } from '../../src/base/queue.ts';

test('Queue gives what was put in, in order, whatever is taken and when', () => {
  const steps = fc.array(fc.oneof(fc.constant('push' as const), fc.nat(400)), { maxLength: 300 });
  fc.assert(
    fc.property(steps, history => {
      const queue = new Queue<{ readonly number: number }>();
      let model: { readonly number: number }[] = [];
      let pushed = 0;
      for (const step of history) {
        if (step === 'push') {
          for (let count = 0; count < 100; count += 1) {
            const item = { number: (pushed += 1) };
            queue.push(item);
            model.push(item);
          }
        } else {
          expect(queue.shift(step)).toBe(step === 0 ? undefined : model.slice(0, step).at(-1));
          model = model.slice(step);
        }
        expect(queue.length).toBe(model.length);
        for (const index of [-1, 0, 1, model.length - 1, model.length]) {
          expect(queue.at(index)).toBe(index < 0 ? undefined : model[index]);
        }
      }
    }),
    { numRuns: 50 },
  );
});

test('shift() of a long queue costs no more than of a short one', () => {
  const queue = new Queue<object>();
  const item = {};
  for (let count = 0; count < 300_000; count += 1) queue.push(item);
  // With a move of all that waits each time, this would be 45 billion of them.
  let taken = 0;
  while (queue.shift() !== undefined) taken += 1;
  expect(taken).toBe(300_000);
});
