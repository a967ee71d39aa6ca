import type { Problem } from './problem.ts';
import type { Draft, Repository } from './repository.ts';

const MINUTE_MS = 60_000;

/** What is counted: two indexes of this name take turns from minute to minute. */
export interface Rate {
  readonly name: string;
  readonly max: number;
  readonly nowMs: number;
  /** What is thrown when there have been so many; told in how many seconds to try again. */
  readonly problem: (retryAfterSeconds: number) => Problem;
}

/**
 * Counts something against what there may be in a minute of the clock, in the draft that does it. Whoever comes
 * first in a new minute empties the index of two minutes ago.
 */
export async function countInMinute(
  draft: Draft,
  repository: Repository,
  { name, max, nowMs, problem }: Rate,
  member: string,
): Promise<void> {
  const minute = Math.floor(nowMs / MINUTE_MS);
  const index = rateIndex(name, minute);
  const [first] = await repository.range(index, { limit: 1 });
  if (first !== undefined && first.score < minute) {
    draft.member(index, first.member, true).clearIndex(index);
  } else {
    draft.below(index, max, problem(Math.ceil(((minute + 1) * MINUTE_MS - nowMs) / 1_000)));
  }
  draft.add(index, member, minute);
}

/** Forgets the counts of what is deleted. */
export function clearRate(draft: Draft, name: string): void {
  for (const turn of [0, 1]) draft.clearIndex(rateIndex(name, turn));
}

function rateIndex(name: string, minute: number): string {
  return `${name}:${minute % 2}`;
}
