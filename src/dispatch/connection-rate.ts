import { RUNS_PER_CONNECTION_AND_MINUTE_MAX } from '../jobs/limits.ts';
import { Problem } from './problem.ts';
import { clearRate, countInMinute } from './rate.ts';
import type { Draft, Repository } from './repository.ts';

/** Counts a run against what a connection may have in a minute, in the draft that submits it. */
export function countRun(
  draft: Draft,
  repository: Repository,
  about: { readonly connectionId: string; readonly runId: string; readonly nowMs: number },
): Promise<void> {
  const rate = {
    name: `rate:${about.connectionId}`,
    max: RUNS_PER_CONNECTION_AND_MINUTE_MAX,
    nowMs: about.nowMs,
    problem: (retryAfterSeconds: number) =>
      new Problem('DesktopFlowsActionThrottled', undefined, { retryAfterSeconds }),
  };
  return countInMinute(draft, repository, rate, about.runId);
}

/** Forgets the counts of a connection that is deleted. */
export function clearRunRate(draft: Draft, connectionId: string): void {
  clearRate(draft, `rate:${connectionId}`);
}
