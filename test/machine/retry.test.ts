import { expect, test } from 'vitest';
import { pause, retryDelayMs } from '../../src/machine/retry.ts';
import { FakeClock } from '../support/fake-clock.ts';

test('retryDelayMs() is between a second and a minute, with all of the range in use', () => {
  expect(retryDelayMs(1, () => 0)).toBe(1_000);
  expect(retryDelayMs(1, () => 0.999)).toBeLessThanOrEqual(2_000);
  expect(retryDelayMs(4, () => 0.5)).toBe(8_500);
  expect(retryDelayMs(100, () => 0.9999)).toBeLessThanOrEqual(60_000);
});

test('pause() ends with its time or its signal, and leaves no timer', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const timed = pause(clock, 1_000, stop.signal);
  clock.advance(1_000);
  await timed;
  const stopped = pause(clock, 1_000, stop.signal);
  stop.abort();
  await stopped;
  expect(clock.pendingTasks).toBe(0);
});
