import type { RunChanges } from './run-changes.ts';
import type { Repository } from './repository.ts';
import type { RunFault } from './run-state.ts';
import { Problem } from './problem.ts';

const AT_A_TIME = 100;

/**
 * Ends the runs of an index of waiting ones for whose sake something is gone. Whatever it does not reach,
 * as when the process ends, fails when it is its turn. Returns how many it ended.
 */
export async function failWaiting(
  repository: Repository,
  changes: RunChanges,
  index: string,
  fault: RunFault,
): Promise<number> {
  let failed = 0;
  for (;;) {
    const entries = await repository.range(index, { limit: AT_A_TIME });
    let isLeft = false;
    for (const { member } of entries) {
      if (await failOne(changes, member, fault)) failed += 1;
      else isLeft = true;
    }
    // Those that were not ended are a machine's just now; dispatch ends them if they come back.
    if (entries.length < AT_A_TIME || isLeft) return failed;
  }
}

async function failOne(changes: RunChanges, runId: string, fault: RunFault): Promise<boolean> {
  try {
    const { transition } = await changes.advance(
      runId,
      { type: 'impossible', fault },
      { entry: () => ({ type: 'completedWithError', code: fault.code, message: fault.message }) },
    );
    return transition.type === 'changed';
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}
