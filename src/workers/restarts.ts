/** How often a worker's process ended by itself. */
export interface Restarts {
  readonly total: number;
  /** Without a long run between them. */
  readonly inARow: number;
}

export const NO_RESTARTS: Restarts = { total: 0, inARow: 0 };

/** A process that ran for so long was well: the next end is a new story. */
const STEADY_MS = 10_000;
/** That many ends in a row are a fault that starting again does not mend. */
export const ENDS_IN_A_ROW_MAX = 5;
const WAIT_MS_MIN = 200;
const WAIT_MS_MAX = 5_000;

/** Pure: what an end after `ranMs` comes to. */
export function afterEnd({ total, inARow }: Restarts, ranMs: number): Restarts {
  return { total: total + 1, inARow: ranMs >= STEADY_MS ? 1 : inARow + 1 };
}

export function isHopeless({ inARow }: Restarts): boolean {
  return inARow >= ENDS_IN_A_ROW_MAX;
}

/** How long to wait before the next start; `jitter` is 0 to 1, and takes away up to half of it. */
export function restartWaitMs({ inARow }: Restarts, jitter: number): number {
  const waitMs = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** Math.max(0, inARow - 1));
  return waitMs * (1 - jitter / 2);
}
