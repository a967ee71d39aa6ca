import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  advanceRun,
  FINAL_STATES,
  STATUS_NUMBERS,
  type RunEvent,
  type RunLife,
  type RunState,
} from '../../src/dispatch/run-state.ts';
import { LOST_GRACE_MS, RECOVERY_MS, STARTED_LEASE_MS } from '../../src/jobs/limits.ts';

const NOW = 1_000_000;

function life(state: RunState, change: Partial<RunLife> = {}): RunLife {
  const base = { state, queuedAtMs: 0, onLost: 'fail', maxAttempts: 1 } as const;
  if (state === 'Queued') return { ...base, attempt: 0, fence: 0, starts: 0, ...change };
  const assigned = { ...base, attempt: 1, fence: 1, machineId: 'm1', leaseUntilMs: NOW };
  if (state === 'Assigned') return { ...assigned, starts: 0, assignedAtMs: 1, ...change };
  return { ...assigned, starts: 1, instance: 'i1', startedAtMs: 2, ...change };
}

function after(state: RunState, event: RunEvent, change: Partial<RunLife> = {}, nowMs = NOW) {
  const transition = advanceRun(life(state, change), event, nowMs);
  if (transition.type === 'refused') return transition.code;
  return transition.type === 'same' ? 'same' : transition.life;
}

const refusedBy = (code: 'UIFlowAlreadyRunning' | 'AccountLockedOut' | 'SessionCreationError') =>
  ({ type: 'refused', fence: 1, fault: { code }, hasOthers: false }) as const;
const START = { type: 'start', fence: 1, machineId: 'm1', instance: 'i1' } as const;
const result = (status: 'Succeeded' | 'Failed' | 'Cancelled' | 'TimedOut' | 'Lost', fence = 1) =>
  ({ type: 'result', fence, status }) as const;
const cancel = (mode: 'safe-stop' | 'stop' | 'kill') =>
  ({ type: 'cancel', mode, by: 'user:ann' }) as const;
const LEASE_OVER = { type: 'lease-over' } as const;

describe('rows of the table of section 7.2', () => {
  test('Queued, picked: Assigned, with a new attempt, a new fence and a lease', () => {
    expect(after('Queued', { type: 'picked', machineId: 'm1' })).toMatchObject({
      state: 'Assigned',
      attempt: 1,
      fence: 1,
      machineId: 'm1',
      leaseUntilMs: NOW + 60_000,
    });
    expect(after('Assigned', { type: 'picked', machineId: 'm2' })).toBe('RunStateConflict');
  });

  test('Assigned, refused for now: Queued, for good: Failed', () => {
    const queued = after('Assigned', refusedBy('UIFlowAlreadyRunning'));
    expect(queued).toMatchObject({ state: 'Queued', attempt: 1, fence: 1 });
    expect(queued).toMatchObject({ machineId: undefined, leaseUntilMs: undefined });
    expect(after('Assigned', refusedBy('AccountLockedOut'))).toMatchObject({
      state: 'Failed',
      fault: { code: 'AccountLockedOut' },
      endedAtMs: NOW,
    });
  });

  test('Assigned, refused by a machine where another might do: Queued while there is another', () => {
    const refused = refusedBy('SessionCreationError');
    expect(after('Assigned', refused)).toMatchObject({ state: 'Failed' });
    expect(after('Assigned', { ...refused, hasOthers: true })).toMatchObject({ state: 'Queued' });
  });

  test('Assigned, no answer or lease over: Queued, and its fence starts nothing any more', () => {
    const fault = { code: 'ConnectionTimeout' } as const;
    const unanswered = { type: 'unanswered', fence: 1, fault } as const;
    expect(after('Assigned', unanswered)).toMatchObject({ state: 'Queued' });
    expect(after('Assigned', LEASE_OVER, { leaseUntilMs: NOW + 1 })).toBe('same');
    const queued = after('Assigned', LEASE_OVER);
    expect(queued).toMatchObject({ state: 'Queued' });
    if (typeof queued === 'string') throw new Error('not queued');
    expect(advanceRun(queued, START, NOW)).toMatchObject({ code: 'LeaseLost' });
    expect(after('Starting', unanswered)).toBe('LeaseLost');
  });

  test('Assigned, start: Starting, once; only the same process may ask again', () => {
    expect(after('Assigned', START)).toMatchObject({
      state: 'Starting',
      starts: 1,
      startedAtMs: NOW,
      leaseUntilMs: NOW + STARTED_LEASE_MS,
    });
    for (const state of ['Starting', 'Running', 'Cancelling'] as const) {
      expect(after(state, START)).toBe('same');
      expect(after(state, { ...START, instance: 'i2' })).toBe('LeaseLost');
      expect(after(state, { ...START, machineId: 'm2' })).toBe('LeaseLost');
    }
    expect(after('Assigned', { ...START, fence: 2 })).toBe('LeaseLost');
    expect(after('Cancelled', START)).toBe('LeaseLost');
  });

  test('Starting, launched: Running', () => {
    expect(after('Starting', { type: 'launched', fence: 1 })).toMatchObject({ state: 'Running' });
    expect(after('Cancelling', { type: 'launched', fence: 1 })).toBe('same');
    expect(after('Starting', { type: 'launched', fence: 0 })).toBe('LeaseLost');
  });

  test('Starting or Running, renewed: the lease is longer', () => {
    for (const state of ['Starting', 'Running', 'SafeStopping', 'Cancelling'] as const) {
      const leaseUntilMs = NOW + STARTED_LEASE_MS;
      expect(after(state, { type: 'renewed', fence: 1 })).toMatchObject({ state, leaseUntilMs });
      expect(after(state, { type: 'renewed', fence: 2 })).toBe('LeaseLost');
    }
    expect(after('Lost', { type: 'renewed', fence: 1 })).toBe('LeaseLost');
  });

  test('Starting or Running, lease and grace over: Lost, or Queued when the caller chose so', () => {
    const late = NOW + LOST_GRACE_MS;
    for (const state of ['Starting', 'Running', 'Cancelling'] as const) {
      expect(after(state, LEASE_OVER, {}, late - 1)).toBe('same');
      expect(after(state, LEASE_OVER, {}, late)).toMatchObject({ state: 'Lost', endedAtMs: late });
    }
    const again = { onLost: 'requeue', maxAttempts: 2 } as const;
    expect(after('Running', LEASE_OVER, again, late)).toMatchObject({ state: 'Queued' });
    // Offers that were refused do not use up what the caller allowed.
    expect(after('Running', LEASE_OVER, { ...again, attempt: 9 }, late)).toMatchObject({
      state: 'Queued',
    });
    expect(after('Running', LEASE_OVER, { ...again, starts: 2 }, late)).toMatchObject({
      state: 'Lost',
    });
    const stopped = { ...again, cancel: { mode: 'stop', by: 'user:ann' } } as const;
    expect(after('Cancelling', LEASE_OVER, stopped, late)).toMatchObject({ state: 'Lost' });
  });

  test('Lost, late result with the same fence: taken within a day', () => {
    const lost = { endedAtMs: NOW, fault: { code: 'AgentNotReachable' } } as const;
    const inTime = advanceRun(life('Lost', lost), result('Succeeded'), NOW + RECOVERY_MS);
    expect(inTime).toMatchObject({ isRecovered: true, life: { state: 'Succeeded' } });
    expect(inTime).toMatchObject({ life: { fault: undefined } });
    expect(after('Lost', result('Succeeded'), lost, NOW + RECOVERY_MS + 1)).toBe('LeaseLost');
    expect(after('Lost', result('Succeeded', 2), lost)).toBe('LeaseLost');
    expect(after('Lost', result('Lost'), lost)).toBe('same');
  });

  test('Running, result: as it says, once', () => {
    for (const status of ['Succeeded', 'Failed', 'Cancelled', 'TimedOut', 'Lost'] as const) {
      expect(after('Running', result(status))).toMatchObject({ state: status, endedAtMs: NOW });
    }
    expect(after('Succeeded', result('Failed'))).toBe('same');
    expect(after('Succeeded', result('Failed', 2))).toBe('LeaseLost');
    expect(after('Assigned', result('Succeeded'))).toBe('LeaseLost');
  });

  test('Running, time over: Cancelling, then TimedOut; a cancel that was first stays one', () => {
    const cancelling = after('Running', { type: 'run-timeout' });
    expect(cancelling).toMatchObject({ state: 'Cancelling', isTimedOut: true });
    if (typeof cancelling === 'string') throw new Error('not cancelling');
    expect(advanceRun(cancelling, result('Cancelled'), NOW)).toMatchObject({
      life: { state: 'TimedOut', fault: { code: 'DesktopFlowsActionTimeout' } },
    });
    expect(after('Cancelling', { type: 'run-timeout' })).toBe('same');
    expect(after('Assigned', { type: 'run-timeout' })).toBe('RunStateConflict');
  });

  test('Queued or Assigned, cancel: Cancelled at once', () => {
    for (const state of ['Queued', 'Assigned'] as const) {
      for (const mode of ['safe-stop', 'stop', 'kill'] as const) {
        expect(after(state, cancel(mode))).toMatchObject({ state: 'Cancelled', cancel: { mode } });
      }
    }
  });

  test('Starting or Running, cancel: Cancelling; safe-stop: SafeStopping; only ever harder', () => {
    expect(after('Running', cancel('safe-stop'))).toMatchObject({ state: 'SafeStopping' });
    expect(after('Running', cancel('stop'))).toMatchObject({ state: 'Cancelling' });
    const stop = { cancel: { mode: 'stop', by: 'user:ann' } } as const;
    expect(after('Cancelling', cancel('safe-stop'), stop)).toBe('same');
    expect(after('Cancelling', cancel('stop'), stop)).toBe('same');
    expect(after('Cancelling', cancel('kill'), stop)).toMatchObject({ cancel: { mode: 'kill' } });
    expect(after('Succeeded', cancel('stop'))).toBe('RunStateConflict');
  });

  test('Queued, queue time over: Failed with NoCandidateMachine and the last answer', () => {
    const event = { type: 'queue-timeout', subCode: 'UIFlowAlreadyRunning' } as const;
    expect(after('Queued', event)).toMatchObject({
      state: 'Failed',
      fault: { code: 'NoCandidateMachine', subCode: 'UIFlowAlreadyRunning' },
    });
    expect(after('Assigned', event)).toBe('RunStateConflict');
  });

  test('Queued, skipped or made impossible', () => {
    const gone = { type: 'impossible', fault: { code: 'ConnectionDeleted' } } as const;
    expect(after('Queued', { type: 'skip' })).toMatchObject({ state: 'Skipped' });
    expect(after('Queued', gone)).toMatchObject({ state: 'Failed', fault: gone.fault });
    expect(after('Running', gone)).toBe('RunStateConflict');
  });

  test('Starting, interrupted before the launch: Queued, and the start does not count', () => {
    const event = { type: 'start-interrupted', fence: 1 } as const;
    expect(after('Starting', event)).toMatchObject({ state: 'Queued', starts: 0 });
    const stop = { cancel: { mode: 'stop', by: 'user:ann' } } as const;
    expect(after('Cancelling', event, stop)).toMatchObject({ state: 'Cancelled' });
    const late = { ...stop, isTimedOut: true };
    expect(after('Cancelling', event, late)).toMatchObject({ state: 'TimedOut' });
    // It said before that it had launched: then nobody knows what ran.
    expect(after('Running', event)).toMatchObject({ state: 'Lost' });
    expect(after('Assigned', event)).toMatchObject({ state: 'Queued', starts: 0 });
    // It was given up as lost, and now it is known that nothing ran.
    const lost = { endedAtMs: NOW } as const;
    expect(after('Lost', event, lost)).toMatchObject({
      state: 'Failed',
      fault: { code: 'StartInterrupted' },
    });
    expect(after('Lost', event, lost, NOW + RECOVERY_MS + 1)).toBe('LeaseLost');
    expect(after('Failed', event)).toBe('LeaseLost');
    expect(after('Queued', event, { fence: 1 })).toBe('same');
    expect(after('Queued', event, { fence: 2 })).toBe('LeaseLost');
  });
});

test('every state has a number of the modelled product', () => {
  expect(Object.values(STATUS_NUMBERS).every(number => number >= 2 && number <= 14)).toBe(true);
});

const anyFence = fc.integer({ min: 0, max: 4 });
const anyMachine = fc.constantFrom('m1', 'm2');
const anyFault = fc.constantFrom(
  { code: 'UIFlowAlreadyRunning' } as const,
  { code: 'AccountLockedOut' } as const,
  { code: 'SessionCreationError' } as const,
);
const anyEvent: fc.Arbitrary<RunEvent> = fc.oneof(
  fc.record({ type: fc.constant('picked' as const), machineId: anyMachine }),
  fc.record({
    type: fc.constant('refused' as const),
    fence: anyFence,
    fault: anyFault,
    hasOthers: fc.boolean(),
  }),
  fc.record({ type: fc.constant('unanswered' as const), fence: anyFence, fault: anyFault }),
  fc.record({
    type: fc.constant('start' as const),
    fence: anyFence,
    machineId: anyMachine,
    instance: fc.constantFrom('i1', 'i2'),
  }),
  fc.record({ type: fc.constantFrom('launched', 'renewed', 'start-interrupted'), fence: anyFence }),
  fc.record({
    type: fc.constant('result' as const),
    fence: anyFence,
    status: fc.constantFrom('Succeeded', 'Failed', 'Cancelled', 'TimedOut', 'Lost'),
  }),
  fc.record({ type: fc.constantFrom('lease-over', 'queue-timeout', 'run-timeout', 'skip') }),
  fc.record({
    type: fc.constant('cancel' as const),
    mode: fc.constantFrom('safe-stop', 'stop', 'kill'),
    by: fc.constant('user:ann'),
  }),
);

test('any history: fences only rise, an end is the end, one start for each fence', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyEvent, fc.integer({ min: 0, max: 200_000 })), { maxLength: 60 }),
      fc.constantFrom('fail' as const, 'requeue' as const),
      (history, onLost) => {
        let now = 0;
        let current = life('Queued', { onLost, maxAttempts: 3 });
        const startedFences: number[] = [];
        for (const [event, ms] of history) {
          now += ms;
          const transition = advanceRun(current, event, now);
          if (transition.type !== 'changed') continue;
          const next = transition.life;
          expect(next.fence).toBeGreaterThanOrEqual(current.fence);
          if (FINAL_STATES.has(current.state)) {
            expect(transition.isRecovered).toBe(true);
            expect(current.state).toBe('Lost');
          }
          if (event.type === 'start') startedFences.push(next.fence);
          expect(next.starts).toBeLessThanOrEqual(3);
          current = next;
        }
        expect(new Set(startedFences).size).toBe(startedFences.length);
      },
    ),
    { numRuns: 2_000 },
  );
});
