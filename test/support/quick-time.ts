import { join } from 'node:path';
import { wrongClock } from './wrong-clock.ts';

const PRELOADED = join(import.meta.dirname, 'quick-time.mjs');
const MS = 1_000;

/** Time of other processes that passes faster than that of the test. */
export interface QuickTime extends Disposable {
  /** The environment to start a program of Node with; what it starts in turn has this time, too. */
  readonly env: Readonly<Record<string, string>>;
  /** For other programs, whose wall clock alone is fast. */
  readonly wallEnv: Readonly<Record<string, string>>;
}

/**
 * For programs as they are shipped, with waits of minutes that a test has no time for: leases and their grace, pauses
 * before a try. All that take part agree on the time, as computers with right clocks do. `times`: so many times faster,
 * 2 or more.
 */
export function quickTime(times: number): QuickTime {
  const clock = wrongClock(0);
  const startedAtMs = performance.now();
  // A step forward is a second, which is what the wrong clock takes.
  const timer = setInterval(
    () => {
      const passedMs = performance.now() - startedAtMs;
      clock.set(Math.floor((passedMs * (times - 1)) / MS));
    },
    MS / (times - 1) / 2,
  );
  return {
    env: {
      ...clock.env,
      QUICK_TIME: String(times),
      NODE_OPTIONS: `--import ${PRELOADED}`,
    },
    wallEnv: clock.env,
    [Symbol.dispose]: () => {
      clearInterval(timer);
      clock[Symbol.dispose]();
    },
  };
}
