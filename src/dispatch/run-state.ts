import { JOB_ERRORS, type JobErrorCode } from '../jobs/error-codes.ts';
import { ASSIGNED_LEASE_MS, LOST_GRACE_MS, RECOVERY_MS, STARTED_LEASE_MS } from '../jobs/limits.ts';

// The life of a run, pure: what an event makes of it, or why it is not taken. Nothing here reads a clock
// or a store. Source: job-dispatch.md sections 7.2 and 9.3.

export type RunState =
  | 'Queued'
  | 'Assigned'
  | 'Starting'
  | 'Running'
  | 'SafeStopping'
  | 'Cancelling'
  | 'Succeeded'
  | 'Failed'
  | 'Cancelled'
  | 'TimedOut'
  | 'Skipped'
  | 'Lost';

export const FINAL_STATES: ReadonlySet<RunState> = new Set([
  'Succeeded',
  'Failed',
  'Cancelled',
  'TimedOut',
  'Skipped',
  'Lost',
]);

/** States in which the machine may be at work. */
const STARTED_STATES: ReadonlySet<RunState> = new Set([
  'Starting',
  'Running',
  'SafeStopping',
  'Cancelling',
]);

/** A run that has an attempt on a machine holds one of its slots. */
export function holdsSlot(state: RunState): boolean {
  return state === 'Assigned' || STARTED_STATES.has(state);
}

/** Numbers of the modelled product's status table. Source: section 7.2. */
export const STATUS_NUMBERS: Readonly<Record<RunState, number>> = {
  Queued: 3,
  Assigned: 3,
  Starting: 2,
  Running: 2,
  SafeStopping: 2,
  Cancelling: 2,
  Succeeded: 4,
  Skipped: 5,
  Cancelled: 7,
  Failed: 8,
  TimedOut: 10,
  Lost: 11,
};

export interface RunFault {
  readonly code: JobErrorCode;
  readonly message?: string | undefined;
  readonly subCode?: JobErrorCode | undefined;
}

export type CancelMode = 'safe-stop' | 'stop' | 'kill';

/** The part of a run that its life changes. Times are wall-clock milliseconds. */
export interface RunLife {
  readonly state: RunState;
  /** Which attempt this is or was; 0 before the first. */
  readonly attempt: number;
  /** Rises with each assignment; only the machine that has the latest may speak for the run. */
  readonly fence: number;
  /** How often a machine was granted the start and did not take it back: what `maxAttempts` limits. */
  readonly starts: number;
  readonly machineId?: string | undefined;
  /** The service's process that was granted the start. */
  readonly instance?: string | undefined;
  readonly leaseUntilMs?: number | undefined;
  readonly queuedAtMs: number;
  readonly assignedAtMs?: number | undefined;
  readonly startedAtMs?: number | undefined;
  readonly endedAtMs?: number | undefined;
  readonly cancel?: { readonly mode: CancelMode; readonly by: string } | undefined;
  /** The run is being ended because its time is over. */
  readonly isTimedOut?: boolean | undefined;
  readonly fault?: RunFault | undefined;
  /** Lost runs are queued again while there are attempts left. */
  readonly onLost: 'fail' | 'requeue';
  /** How many starts there may be in all. */
  readonly maxAttempts: number;
}

export type RunEvent =
  | { readonly type: 'picked'; readonly machineId: string }
  | {
      readonly type: 'refused';
      readonly fence: number;
      readonly fault: RunFault;
      /** Another machine could be asked; decides where the code's class is `another-machine`. */
      readonly hasOthers: boolean;
    }
  /** No answer, channel lost, or the lease ended before the start. */
  | { readonly type: 'unanswered'; readonly fence: number; readonly fault: RunFault }
  | {
      readonly type: 'start';
      readonly fence: number;
      readonly machineId: string;
      readonly instance: string;
    }
  | { readonly type: 'launched'; readonly fence: number }
  | { readonly type: 'renewed'; readonly fence: number }
  /** The machine's service ended after it had accepted and before it launched anything. */
  | { readonly type: 'start-interrupted'; readonly fence: number }
  | {
      readonly type: 'result';
      readonly fence: number;
      readonly status: 'Succeeded' | 'Failed' | 'Cancelled' | 'TimedOut' | 'Lost';
      readonly fault?: RunFault | undefined;
    }
  | { readonly type: 'lease-over' }
  | { readonly type: 'queue-timeout'; readonly subCode?: JobErrorCode | undefined }
  | { readonly type: 'run-timeout' }
  | { readonly type: 'cancel'; readonly mode: CancelMode; readonly by: string }
  | { readonly type: 'skip' }
  /** What it needs is gone: its connection, its machine, its group. */
  | { readonly type: 'impossible'; readonly fault: RunFault };

/** What became of an event. `same`: it was taken before, and its answer holds still. */
export type Transition =
  | { readonly type: 'changed'; readonly life: RunLife; readonly isRecovered?: true }
  | { readonly type: 'same' }
  | { readonly type: 'refused'; readonly code: 'LeaseLost' | 'RunStateConflict' };

const LEASE_LOST: Transition = { type: 'refused', code: 'LeaseLost' };
const CONFLICT: Transition = { type: 'refused', code: 'RunStateConflict' };
const SAME: Transition = { type: 'same' };

export function advanceRun(life: RunLife, event: RunEvent, nowMs: number): Transition {
  const { state } = life;
  switch (event.type) {
    case 'picked':
      if (state !== 'Queued') return CONFLICT;
      return changed(life, {
        state: 'Assigned',
        attempt: life.attempt + 1,
        fence: life.fence + 1,
        machineId: event.machineId,
        instance: undefined,
        assignedAtMs: nowMs,
        leaseUntilMs: nowMs + ASSIGNED_LEASE_MS,
      });
    case 'refused':
      if (state !== 'Assigned' || event.fence !== life.fence) return LEASE_LOST;
      if (mayBeOfferedAgain(event.fault.code, event.hasOthers)) {
        return changed(life, queuedAgain(event.fault));
      }
      return ended(life, 'Failed', nowMs, event.fault);
    case 'unanswered':
      if (state !== 'Assigned' || event.fence !== life.fence) return LEASE_LOST;
      return changed(life, queuedAgain(event.fault));
    case 'start':
      return started(life, event, nowMs);
    case 'launched':
      if (!isCurrent(life, event.fence)) return LEASE_LOST;
      return state === 'Starting' ? changed(life, { state: 'Running' }) : SAME;
    case 'renewed':
      if (!isCurrent(life, event.fence)) return LEASE_LOST;
      return changed(life, { leaseUntilMs: nowMs + STARTED_LEASE_MS });
    case 'start-interrupted':
      return startInterrupted(life, event.fence, nowMs);
    case 'result':
      return finished(life, event, nowMs);
    case 'lease-over':
      return leaseOver(life, nowMs);
    case 'queue-timeout':
      if (state !== 'Queued') return CONFLICT;
      return ended(life, 'Failed', nowMs, { code: 'NoCandidateMachine', subCode: event.subCode });
    case 'run-timeout':
      if (!STARTED_STATES.has(state)) return CONFLICT;
      // Somebody ends it already, perhaps harder than time would.
      if (state === 'Cancelling') return SAME;
      return changed(life, {
        state: 'Cancelling',
        isTimedOut: true,
        cancel: { mode: 'stop', by: 'time limit' },
      });
    case 'cancel':
      return cancelled(life, event, nowMs);
    case 'skip':
      return state === 'Queued' ? ended(life, 'Skipped', nowMs) : CONFLICT;
    default:
      return state === 'Queued' ? ended(life, 'Failed', nowMs, event.fault) : CONFLICT;
  }
}

/** Whether a machine's no sends a run back into its queue; else the run has failed. */
export function mayBeOfferedAgain(code: JobErrorCode, hasOthers: boolean): boolean {
  const { class: kind } = JOB_ERRORS[code];
  if (kind === 'another-machine') return hasOthers;
  return kind === 'transient' || kind === 'in-doubt';
}

function started(
  life: RunLife,
  event: Extract<RunEvent, { type: 'start' }>,
  nowMs: number,
): Transition {
  if (event.fence !== life.fence || event.machineId !== life.machineId) return LEASE_LOST;
  if (life.state === 'Assigned') {
    return changed(life, {
      state: 'Starting',
      starts: life.starts + 1,
      instance: event.instance,
      startedAtMs: nowMs,
      leaseUntilMs: nowMs + STARTED_LEASE_MS,
      fault: undefined,
    });
  }
  // The answer was lost: the same process may ask again, nobody else may.
  const isRepeated = STARTED_STATES.has(life.state) && event.instance === life.instance;
  return isRepeated ? SAME : LEASE_LOST;
}

/**
 * Nothing ran, so that the run may be given out again; who says so of one that ran has lost it. One that
 * was given up as lost is over, but now it is known how.
 */
function startInterrupted(life: RunLife, fence: number, nowMs: number): Transition {
  if (fence !== life.fence) return LEASE_LOST;
  const fault = { code: 'StartInterrupted' } as const;
  if (life.state === 'Queued') return SAME;
  if (life.state === 'Assigned') return changed(life, queuedAgain(fault));
  if (life.state === 'Lost') return recovered(life, 'Failed', nowMs, fault);
  if (!isCurrent(life, fence)) return LEASE_LOST;
  if (life.state === 'Running') return lost(life, nowMs, { code: 'AgentNotReachable' });
  if (life.isTimedOut === true) return timedOut(life, nowMs);
  if (life.cancel !== undefined) return ended(life, 'Cancelled', nowMs);
  return changed(life, { ...queuedAgain(fault), starts: life.starts - 1 });
}

function finished(
  life: RunLife,
  { fence, status, fault }: Extract<RunEvent, { type: 'result' }>,
  nowMs: number,
): Transition {
  if (fence !== life.fence) return LEASE_LOST;
  if (life.state === 'Lost') {
    if (status === 'Lost') return SAME;
    return recovered(life, status, nowMs, fault);
  }
  if (FINAL_STATES.has(life.state)) return SAME;
  if (!STARTED_STATES.has(life.state)) return LEASE_LOST;
  if (status === 'Lost') return lost(life, nowMs, fault ?? { code: 'AgentNotReachable' });
  if (status === 'Cancelled' && life.isTimedOut === true) return timedOut(life, nowMs);
  if (status === 'TimedOut') return timedOut(life, nowMs);
  return ended(life, status, nowMs, fault);
}

/** What had failed as lost has not: its fault is forgotten with it. */
function recovered(
  life: RunLife,
  status: 'Succeeded' | 'Failed' | 'Cancelled' | 'TimedOut',
  nowMs: number,
  fault: RunFault | undefined,
): Transition {
  if (nowMs > (life.endedAtMs ?? 0) + RECOVERY_MS) return LEASE_LOST;
  const isTimedOut = status === 'TimedOut' || (status === 'Cancelled' && life.isTimedOut === true);
  const told = isTimedOut ? timedOut(life, nowMs) : ended(life, status, nowMs, fault);
  return told.type === 'changed' ? { ...told, isRecovered: true } : told;
}

function leaseOver(life: RunLife, nowMs: number): Transition {
  const { leaseUntilMs = 0, state } = life;
  if (nowMs < leaseUntilMs) return SAME;
  if (state === 'Assigned') return changed(life, queuedAgain({ code: 'ConnectionTimeout' }));
  if (!STARTED_STATES.has(state)) return SAME;
  // Nothing is said of a run before its machine has had time to come back.
  if (nowMs < leaseUntilMs + LOST_GRACE_MS) return SAME;
  return lost(life, nowMs, { code: 'AgentNotReachable' });
}

function lost(life: RunLife, nowMs: number, fault: RunFault): Transition {
  const mayRunAgain =
    life.onLost === 'requeue' && life.starts < life.maxAttempts && life.cancel === undefined;
  return mayRunAgain ? changed(life, queuedAgain(fault)) : ended(life, 'Lost', nowMs, fault);
}

function cancelled(
  life: RunLife,
  { mode, by }: Extract<RunEvent, { type: 'cancel' }>,
  nowMs: number,
): Transition {
  if (life.state === 'Queued' || life.state === 'Assigned') {
    // Whoever was asked and not yet granted the start is told that it lost the lease.
    return ended({ ...life, cancel: { mode, by } }, 'Cancelled', nowMs);
  }
  if (!STARTED_STATES.has(life.state)) return CONFLICT;
  if (mode === 'safe-stop') {
    if (life.cancel !== undefined) return SAME;
    return changed(life, { state: 'SafeStopping', cancel: { mode, by } });
  }
  const isStronger = life.cancel === undefined || STRENGTH[mode] > STRENGTH[life.cancel.mode];
  return isStronger ? changed(life, { state: 'Cancelling', cancel: { mode, by } }) : SAME;
}

const STRENGTH: Readonly<Record<CancelMode, number>> = { 'safe-stop': 0, stop: 1, kill: 2 };

function isCurrent(life: RunLife, fence: number): boolean {
  return STARTED_STATES.has(life.state) && fence === life.fence;
}

function queuedAgain(fault: RunFault): Partial<RunLife> {
  return {
    state: 'Queued',
    machineId: undefined,
    instance: undefined,
    leaseUntilMs: undefined,
    assignedAtMs: undefined,
    startedAtMs: undefined,
    fault,
  };
}

function timedOut(life: RunLife, nowMs: number): Transition {
  return ended(life, 'TimedOut', nowMs, { code: 'DesktopFlowsActionTimeout' });
}

function ended(life: RunLife, state: RunState, nowMs: number, fault?: RunFault): Transition {
  return { type: 'changed', life: endOf(life, state, nowMs, fault) };
}

function endOf(life: RunLife, state: RunState, nowMs: number, fault?: RunFault): RunLife {
  return { ...life, state, endedAtMs: nowMs, leaseUntilMs: undefined, fault };
}

function changed(life: RunLife, change: Partial<RunLife>): Transition {
  return { type: 'changed', life: { ...life, ...change } };
}
