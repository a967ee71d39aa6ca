export type CancelTimer = () => void;

/** The only source of time. Nothing else in src/ calls `Date.now` or `setTimeout`. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  nowMs(): number;
  /** Milliseconds since 1970, as the operating system believes; for token expiry and timestamps only. */
  wallMs(): number;
  /** Calls `task` once, `delayMs` from now, unless the returned function is called first. */
  after(delayMs: number, task: () => void): CancelTimer;
}

/** Longest delay that Node's timers take; a longer one would fire at once. */
const TIMER_DELAY_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, Math.min(delayMs, TIMER_DELAY_MS_MAX));
    return () => clearTimeout(timer);
  },
};
