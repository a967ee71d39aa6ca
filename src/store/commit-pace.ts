/** The part of the time that commits may take while they follow one another. */
const SHARE_MAX = 0.2;
/** Commits that nothing is held up for: a few steps now and then are written at once. */
const FREE_MS = 10;
/** How long steps are held up at most, so that a slow disk does not make them slower still. */
export const REST_MS_MAX = 5;

/**
 * How long to wait before the next commit, which stops the process for the time of a disk write: none while there
 * are few, and when they would take more than their part of the time as long as brings them back to it. What is
 * asked for meanwhile is written by one commit.
 */
export class CommitPace {
  /** Time that commits took of late and that has not been made up for, in milliseconds, as it was at `#atMs`. */
  #takenMs = 0;
  #atMs = 0;

  /** A commit has ended. */
  committed(nowMs: number, tookMs: number): void {
    const mostMs = FREE_MS + REST_MS_MAX * SHARE_MAX;
    this.#takenMs = Math.min(mostMs, this.#left(nowMs) + tookMs);
    this.#atMs = nowMs;
  }

  /** Milliseconds; 0: now. */
  restMs(nowMs: number): number {
    return Math.max(0, (this.#left(nowMs) - FREE_MS) / SHARE_MAX);
  }

  #left(nowMs: number): number {
    return Math.max(0, this.#takenMs - (nowMs - this.#atMs) * SHARE_MAX);
  }
}
