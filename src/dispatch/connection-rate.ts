import { RUNS_PER_CONNECTION_AND_MINUTE_MAX } from '../jobs/limits.ts';
import { Problem } from './problem.ts';
import type { Draft, Repository } from './repository.ts';

const MINUTE_MS = 60_000;

/**
 * Counts a run against what a connection may have in a minute of the clock, in the draft that submits it.
 * Two indexes take turns; whoever comes first in a new minute empties the one of two minutes ago.
 */
export async function countRun(
  draft: Draft,
  repository: Repository,
  about: { readonly connectionId: string; readonly runId: string; readonly nowMs: number },
): Promise<void> {
  const minute = Math.floor(about.nowMs / MINUTE_MS);
  const index = rateIndex(about.connectionId, minute);
  const [first] = await repository.range(index, { limit: 1 });
  if (first !== undefined && first.score < minute) {
    draft.member(index, first.member, true).clearIndex(index);
  } else {
    const retryAfterSeconds = Math.ceil(((minute + 1) * MINUTE_MS - about.nowMs) / 1_000);
    const throttled = new Problem('DesktopFlowsActionThrottled', undefined, { retryAfterSeconds });
    draft.below(index, RUNS_PER_CONNECTION_AND_MINUTE_MAX, throttled);
  }
  draft.add(index, about.runId, minute);
}

/** Forgets the counts of a connection that is deleted. */
export function clearRate(draft: Draft, connectionId: string): void {
  for (const turn of [0, 1]) draft.clearIndex(rateIndex(connectionId, turn));
}

function rateIndex(connectionId: string, minute: number): string {
  return `rate:${connectionId}:${minute % 2}`;
}
