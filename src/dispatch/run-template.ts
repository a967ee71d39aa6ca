import { requireMay, type Caller } from './access.ts';
import { Problem } from './problem.ts';
import { CONNECTION } from './records.ts';
import type { Repository } from './repository.ts';
import type { RunRequest } from './run-request.ts';

/**
 * Whoever asks for runs later may use the connection now, and it can run them: better said when it is set than
 * found in a history. All of it is asked again each time a run is started.
 */
export async function requireRunnable(
  repository: Repository,
  caller: Caller,
  { connectionId, mode }: Pick<RunRequest, 'connectionId' | 'mode'>,
): Promise<void> {
  const connection = await repository.get(CONNECTION, connectionId);
  if (connection === undefined) throw new Problem('ConnectionNotFound');
  requireMay(caller, 'use', connection.value);
  if (mode === 'unattended' && connection.value.kind === 'none') {
    throw new Problem('UnattendedUnsupportedWithOldConnection');
  }
}
