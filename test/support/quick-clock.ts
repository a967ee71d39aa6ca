import { systemClock, type Clock } from '../../src/base/clock.ts';

/** Time that passes so many times faster than that of the system, for waits of seconds beside real sockets. */
export function quickClock(times: number): Clock {
  return {
    nowMs: () => systemClock.nowMs() * times,
    wallMs: () => systemClock.wallMs(),
    after: (delayMs, task) => systemClock.after(delayMs / times, task),
  };
}
