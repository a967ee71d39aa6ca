import { ASSIGNED_LEASE_MS, LOST_GRACE_MS, STARTED_LEASE_MS } from '../jobs/limits.ts';
import type { Renewed } from '../jobs/messages.ts';
import { ReportError, type Attempt } from './ports.ts';
import { pause } from './retry.ts';
import type { RunTools } from './run-tools.ts';

/**
 * Asks for the permission to launch, while the lease may hold: it may have been granted and the answer
 * lost. Undefined: it is not had, or the signal was aborted.
 */
export async function askStart(
  { runId, attempt, fence }: Attempt,
  { reporter, clock, log, instance, agentVersion, retryDelayMs }: RunTools,
  signal: AbortSignal,
): Promise<Renewed | undefined> {
  const untilMs = clock.nowMs() + ASSIGNED_LEASE_MS + STARTED_LEASE_MS + LOST_GRACE_MS;
  let failures = 0;
  while (!signal.aborted && clock.nowMs() < untilMs) {
    try {
      return await reporter.start({ runId, attempt, fence, instance, agentVersion });
    } catch (error) {
      if (!(error instanceof ReportError)) throw error;
      log.debug({ runId, fence, code: error.code }, 'the start was not granted');
      if (error.isFinal) return undefined;
    }
    failures += 1;
    await pause(clock, retryDelayMs(failures), signal);
  }
  return undefined;
}

/**
 * Says that nothing ran, until that is heard: the control plane may have granted the start without this
 * machine's having heard so, or the launch did not come about. False: the signal was aborted before.
 */
export async function giveBack(
  { runId, attempt, fence }: Attempt,
  { reporter, clock, log, retryDelayMs }: RunTools,
  signal: AbortSignal,
): Promise<boolean> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await reporter.startInterrupted({ runId, attempt, fence });
      return true;
    } catch (error) {
      if (!(error instanceof ReportError)) throw error;
      log.debug({ runId, fence, code: error.code }, 'an interrupted start was not taken');
      if (error.isFinal) return true;
    }
    failures += 1;
    await pause(clock, retryDelayMs(failures), signal);
  }
  return false;
}
