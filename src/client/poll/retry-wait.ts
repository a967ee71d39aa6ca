/** Waits between tries of one thing. */
export interface RetryLimits {
  readonly firstMs: number;
  readonly longestMs: number;
}

/**
 * How long to wait after so many failures in a row, from 1: doubling, and by chance up to half less, so
 * that those who failed together do not come back together. `chance` is from 0 to 1.
 */
export function retryWaitMs(
  failures: number,
  { firstMs, longestMs }: RetryLimits,
  chance: number,
): number {
  // From 2^31 on it is certainly the longest.
  const doublings = Math.min(failures - 1, 31);
  return Math.min(firstMs * 2 ** doublings, longestMs) * (1 - chance / 2);
}
