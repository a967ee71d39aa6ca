export const RECONNECT_FIRST_MS = 500;
export const RECONNECT_MAX_MS = 30_000;

/**
 * How long to wait before the next try: anything up to a ceiling that doubles with each failure. The
 * whole range is used, so that ten thousand listeners that lost one relay do not come back at once.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  /** @param random gives numbers from 0 up to but not 1 */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Tries that failed in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure; returns the pause after it. */
  nextMs(): number {
    const ceilingMs = Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    return Math.round(ceilingMs * this.#random());
  }

  reset(): void {
    this.#failures = 0;
  }
}
