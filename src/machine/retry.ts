import type { Clock } from '../base/clock.ts';

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;

/**
 * The pause after so many failures in a row (1 or more): at least a second, at most one that doubles each
 * time up to a minute, anything in between. Source: job-dispatch.md section 9.4, "reconnect back-off".
 */
export function retryDelayMs(failures: number, random: () => number = Math.random): number {
  const ceilingMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 16));
  return RETRY_FIRST_MS + Math.round((ceilingMs - RETRY_FIRST_MS) * random());
}

/** Resolves after the pause, or at once when `signal` is aborted. */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise(resolve => {
    const end = (): void => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(delayMs, end);
    signal.addEventListener('abort', end, { once: true });
  });
}
