import { describe, expect, test } from 'vitest';
import {
  answerAfter,
  hasOthers,
  inOrder,
  slotsOf,
  whyNot,
  type Candidate,
} from '../../src/dispatch/choose-machine.ts';
import { machineStateOf, presenceStateOf, reasonsOf } from '../../src/dispatch/machine-state.ts';
import type { Group, Machine, Presence } from '../../src/dispatch/records.ts';
import type { Run } from '../../src/dispatch/run-record.ts';
import { isAtLeast } from '../../src/dispatch/versions.ts';
import { groupRecord, machineRecord, presenceRecord } from '../support/dispatch.ts';

const NOW = 1_800_000_000_000;

function candidate(
  change: {
    readonly machine?: Partial<Machine>;
    readonly presence?: Partial<Presence>;
    readonly group?: Group;
    readonly used?: number;
    readonly idleSinceMs?: number;
    readonly minAgentVersion?: string;
  } = {},
): Candidate {
  const machine = machineRecord('m1', change.machine);
  return {
    machine,
    record: { id: machine.id, version: 1, value: machine },
    presence: { ...presenceRecord(NOW), gainedAtMs: 1, ...change.presence },
    group: change.group,
    minAgentVersion: change.minAgentVersion,
    used: change.used ?? 0,
    idleSinceMs: change.idleSinceMs ?? 0,
  };
}

function run(change: Partial<Run> = {}): Run {
  return {
    id: 'r1',
    state: 'Queued',
    attempt: 0,
    fence: 0,
    starts: 0,
    queuedAtMs: NOW,
    onLost: 'fail',
    maxAttempts: 1,
    owner: 'user:ann',
    connectionId: 'c1',
    target: { kind: 'machine', id: 'm1' },
    mode: 'unattended',
    priority: 'normal',
    jobRef: 'job',
    jobKind: 'command',
    labels: {},
    queueUntilMs: NOW + 3_600_000,
    runSeconds: 60,
    whenOffline: 'queue',
    trigger: 'api',
    inputBytes: 0,
    answers: {},
    ...change,
  };
}

const inGroup = { machine: { group: { id: 'g1', provedKid: 'old' } }, group: groupRecord('g1') };

describe('whyNot()', () => {
  test.each<[string, Candidate, Partial<Run>, string | undefined]>([
    ['all is well', candidate(), {}, undefined],
    [
      'silent',
      candidate({ presence: { lastSignalAtMs: NOW - 75_001 } }),
      {},
      'NoListenerConnected',
    ],
    ['maintenance', candidate({ machine: { isInMaintenance: true } }), {}, 'MachineInMaintenance'],
    ['draining', candidate({ machine: { isDraining: true } }), {}, 'MachineInMaintenance'],
    [
      'cloned',
      candidate({ machine: { hasIdentityConflict: true } }),
      {},
      'MachineIdentityConflict',
    ],
    [
      'group in maintenance',
      candidate({ group: groupRecord('g1', { isInMaintenance: true }) }),
      {},
      'MachineInMaintenance',
    ],
    [
      'group key not proved',
      candidate(inGroup),
      { target: { kind: 'group', id: 'g1' } },
      'MachineRequiresGroupKey',
    ],
    ['a run of its own key', candidate(inGroup), {}, undefined],
    ['too old for the job', candidate(), { minAgentVersion: '1.0.1' }, 'JobSchemaTooNew'],
    ['too old for all', candidate({ minAgentVersion: '2.0.0' }), {}, 'JobSchemaTooNew'],
    ['no slot', candidate({ used: 1 }), {}, 'UIFlowAlreadyRunning'],
    ['lacks a label', candidate(), { labels: { gpu: 'yes' } }, 'NoCandidateMachine'],
    [
      'nobody can sign in',
      candidate({ presence: { capacity: { unattended: 1, attended: 0 } } }),
      { mode: 'attended' },
      'AttendedUserNotLoggedIn',
    ],
  ])('%s', (_name, machine, change, code) => {
    expect(whyNot(run(change), machine, NOW)?.code).toBe(code);
  });

  test('leaves a machine alone that said no, until its time or until it has changed', () => {
    const said = answerAfter(undefined, { code: 'UIFlowAlreadyRunning' }, run(), NOW);
    const answered = run({ answers: { m1: said } });
    expect(whyNot(answered, candidate(), NOW + 4_999)).toMatchObject({
      code: 'UIFlowAlreadyRunning',
      untilMs: NOW + 5_000,
    });
    expect(whyNot(answered, candidate(), NOW + 5_000)).toBeUndefined();
    const back = candidate({ presence: { gainedAtMs: NOW + 1 } });
    expect(whyNot(answered, back, NOW + 2)).toBeUndefined();
    expect(whyNot(answered, candidate({ idleSinceMs: NOW + 1 }), NOW + 2)).toBeUndefined();
    const maintained = candidate({ machine: { eligibleAtMs: NOW + 1 } });
    expect(whyNot(answered, maintained, NOW + 2)).toBeUndefined();
  });
});

test('answerAfter() doubles the wait up to a minute, and longer only when asked', () => {
  let answer = answerAfter(undefined, { code: 'UIFlowAlreadyRunning' }, run(), NOW);
  const waits = [answer.notBeforeMs - NOW];
  for (let times = 0; times < 5; times += 1) {
    answer = answerAfter(answer, { code: 'UIFlowAlreadyRunning' }, run(), NOW);
    waits.push(answer.notBeforeMs - NOW);
  }
  expect(waits).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
  const asked = { code: 'UIFlowAlreadyRunning', retryAfterSeconds: 120 } as const;
  expect(answerAfter(undefined, asked, run(), NOW).notBeforeMs - NOW).toBe(120_000);
});

test('hasOthers() lets a session fail on one other machine, and an old agent on each', () => {
  const answer = (code: 'SessionCreationError' | 'JobSchemaTooNew') =>
    answerAfter(undefined, { code }, run(), NOW);
  const members = ['m1', 'm2', 'm3'];
  expect(hasOthers(run(), 'm1', 'SessionCreationError', members)).toBe(true);
  expect(hasOthers(run(), 'm1', 'SessionCreationError', ['m1'])).toBe(false);
  const once = run({ answers: { m1: answer('SessionCreationError') } });
  expect(hasOthers(once, 'm2', 'SessionNotFound', members)).toBe(false);
  const old = run({ answers: { m1: answer('JobSchemaTooNew') } });
  expect(hasOthers(old, 'm2', 'JobSchemaTooNew', members)).toBe(true);
  expect(hasOthers(old, 'm2', 'JobSchemaTooNew', ['m1', 'm2'])).toBe(false);
});

test('inOrder() takes the fewest running, then the longest idle', () => {
  const candidates = [
    { used: 1, idleSinceMs: 1 },
    { used: 0, idleSinceMs: 9 },
    { used: 0, idleSinceMs: 5 },
  ];
  const ordered = inOrder(
    candidates.map(of => candidate(of)),
    () => 0,
  );
  expect(ordered.map(({ used, idleSinceMs }) => [used, idleSinceMs])).toEqual([
    [0, 5],
    [0, 9],
    [1, 1],
  ]);
});

test('slotsOf() is what owner, machine and limit allow', () => {
  const of = (allocatedBots: number, unattended: number) =>
    slotsOf(
      candidate({
        machine: { allocatedBots },
        presence: { capacity: { unattended, attended: 2 } },
      }),
      'unattended',
    );
  expect(of(1, 4)).toBe(1);
  expect(of(8, 4)).toBe(4);
  expect(of(50, 50)).toBe(10);
  expect(slotsOf(candidate(), 'attended')).toBe(1);
});

test('presenceStateOf() follows from the last signal alone', () => {
  const at = (silentMs: number) =>
    presenceStateOf({ ...presenceRecord(NOW), lastSignalAtMs: NOW - silentMs }, NOW);
  expect(presenceStateOf(undefined, NOW)).toBe('NeverConnected');
  expect([0, 75_000, 75_001, 120_000, 120_001].map(at)).toEqual([
    'Connected',
    'Connected',
    'Stale',
    'Stale',
    'Disconnected',
  ]);
});

test('machineStateOf() turns a drained machine inactive when its last run has ended', () => {
  const reasons = reasonsOf(candidate({ machine: { isDraining: true } }));
  expect(machineStateOf(reasons, 1)).toBe('Maintenance');
  expect(machineStateOf(reasons, 0)).toBe('Inactive');
  expect(machineStateOf(reasonsOf(candidate()), 0)).toBe('Active');
});

test.each([
  ['1.2.0', '1.2.0', true],
  ['1.10.0', '1.9.9', true],
  ['1.2', '1.2.1', false],
  ['2.0.0-beta', '2.0.0', true],
  ['x', '0.0.1', false],
])('isAtLeast(%s, %s) is %s', (version, least, expected) => {
  expect(isAtLeast(version, least)).toBe(expected);
});
