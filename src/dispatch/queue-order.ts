export type Priority = 'high' | 'normal';

/** Below every time in milliseconds there will be: a rank is one of these. */
const RANK = 2 ** 43;

/**
 * Where a run stands in its queue; lower is earlier. High priority before normal, then the time of
 * enqueuing. Exact, for it stays below 2^53. Source: job-dispatch.md section 9.2.
 */
export function queueScore(priority: Priority, enqueuedMs: number): number {
  return (priority === 'high' ? 0 : 1) * RANK + enqueuedMs;
}

/** The score of a run that is moved to the top: before all others, the last one moved first. */
export function topScore(lowest: number | undefined): number {
  return Math.min(lowest ?? 0, 0) - 1;
}
