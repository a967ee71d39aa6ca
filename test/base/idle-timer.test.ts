import { expect, test, vi } from 'vitest';
import { IdleTimer } from '../../src/base/idle-timer.ts';
import { FakeClock } from '../support/fake-clock.ts';

test('calls once when nothing is touched for the time', () => {
  const clock = new FakeClock();
  const onIdle = vi.fn<() => void>();
  const timer = new IdleTimer(clock, 1_000, onIdle);
  clock.advance(999);
  expect(onIdle).not.toHaveBeenCalled();
  clock.advance(1);
  expect(onIdle).toHaveBeenCalledTimes(1);
  clock.advance(10_000);
  expect(onIdle).toHaveBeenCalledTimes(1);
  timer.stop();
});

test('counts from the last touch, to the millisecond', () => {
  const clock = new FakeClock();
  const onIdle = vi.fn<() => void>();
  const timer = new IdleTimer(clock, 1_000, onIdle);
  for (let i = 0; i < 5; i += 1) {
    clock.advance(700);
    timer.touch();
  }
  clock.advance(999);
  expect(onIdle).not.toHaveBeenCalled();
  clock.advance(1);
  expect(onIdle).toHaveBeenCalledTimes(1);
});

test('moves no timer when touched: one task waits at any time', () => {
  const clock = new FakeClock();
  const timer = new IdleTimer(clock, 1_000, () => {});
  for (let i = 0; i < 100; i += 1) {
    clock.advance(10);
    timer.touch();
    expect(clock.pendingTasks).toBe(1);
  }
});

test.each(['at once', 'after it looked again'])('says nothing once stopped, %s', when => {
  const clock = new FakeClock();
  const onIdle = vi.fn<() => void>();
  const timer = new IdleTimer(clock, 1_000, onIdle);
  if (when !== 'at once') {
    clock.advance(500);
    timer.touch();
    clock.advance(600);
  }
  timer.stop();
  clock.advance(10_000);
  expect(onIdle).not.toHaveBeenCalled();
  expect(clock.pendingTasks).toBe(0);
});
