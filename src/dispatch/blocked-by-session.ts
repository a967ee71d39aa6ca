import type { JobErrorCode } from '../jobs/error-codes.ts';
import { queueCallback } from './callbacks.ts';
import type { Draft } from './repository.ts';
import { appendEvent } from './run-events.ts';
import type { Run } from './run-record.ts';

/** Somebody has to do something at the machine: unlock, sign out, sign in. */
const BLOCKED_BY_SESSION: ReadonlySet<JobErrorCode> = new Set([
  'AttendedUserNotLoggedIn',
  'AttendedUserSessionNotActive',
  'SessionExistsForTheUserWhenUnattended',
  'Win10AlreadyHasActiveSession',
  'UnattendedUserSessionLocked',
  'UnattendedUserSessionDisconnected',
]);

/** A run that a machine could not take for now, with when it was first a session that was in the way. */
export function withBlocked(run: Run, code: JobErrorCode, nowMs: number): Run {
  if (run.state !== 'Queued' || !BLOCKED_BY_SESSION.has(code)) return run;
  return { ...run, blockedAtMs: run.blockedAtMs ?? nowMs };
}

/**
 * Adds to the step that sends a run back to its queue the notice that it waits for a user's session: once for
 * each run, at the first machine that says so. Source: job-dispatch.md section 14.
 */
export function tellIfBlocked(draft: Draft, environment: string, before: Run, after: Run): void {
  const { blockedAtMs: atMs, fault } = after;
  if (atMs === undefined || before.blockedAtMs !== undefined) return;
  const { code, message } = fault ?? {};
  appendEvent(draft, after.id, { atMs, type: 'blockedBySession', code, message });
  queueCallback(draft, environment, after, 'runBlockedBySession', atMs);
}
