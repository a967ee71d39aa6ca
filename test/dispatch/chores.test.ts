import { expect, test } from 'vitest';
import { Chores } from '../../src/dispatch/chores.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { settled } from '../support/fake-machines.ts';
import { silentLogger } from '../support/silent-logger.ts';

test('Chores does each at its pace, at its topic at once, and lets none hold up another', async () => {
  const clock = new FakeClock(0);
  const done: string[] = [];
  const hanging: (() => void)[] = [];
  const chores = new Chores(
    [
      { failure: 'a', everyMs: 1_000, run: () => Promise.resolve(done.push('a')) },
      { failure: 'b', everyMs: 5_000, topic: 'box', run: () => Promise.resolve(done.push('b')) },
      { failure: 'c', everyMs: 1_000, run: () => Promise.reject(new Error('away')) },
      {
        failure: 'd',
        everyMs: 1_000,
        run: () => new Promise<void>(resolve => void hanging.push(resolve)),
      },
    ],
    clock,
    silentLogger,
  );
  chores.sweep();
  await settled();
  clock.advance(1_000);
  chores.sweep();
  await settled();
  expect(done).toEqual(['a', 'b', 'a']);
  chores.onTopics(['run', 'box']);
  await settled();
  expect(done).toEqual(['a', 'b', 'a', 'b']);
  let isStopped = false;
  const stopping = chores.stop().then(() => (isStopped = true));
  await settled();
  expect(isStopped).toBe(false);
  for (const release of hanging) release();
  await stopping;
  chores.sweep();
  await settled();
  expect(done).toHaveLength(4);
});
