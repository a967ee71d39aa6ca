import { isJobErrorCode, JOB_ERRORS } from '../jobs/error-codes.ts';

/** What a state looks like: its colour is never its only sign, the word stands beside it. */
export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'quiet';

export interface Word {
  readonly label: string;
  readonly tone: Tone;
}

const MACHINE_STATES: Readonly<Record<string, Word>> = {
  Active: { label: 'Active', tone: 'good' },
  Maintenance: { label: 'Maintenance', tone: 'warn' },
  Inactive: { label: 'Inactive', tone: 'quiet' },
};

const GROUP_STATES: Readonly<Record<string, Word>> = {
  NeedsKey: { label: 'Needs a key', tone: 'warn' },
  Active: { label: 'Active', tone: 'good' },
  Maintenance: { label: 'Maintenance', tone: 'warn' },
};

const PRESENCE_STATES: Readonly<Record<string, Word>> = {
  Connected: { label: 'Connected', tone: 'good' },
  Stale: { label: 'Silent', tone: 'warn' },
  Disconnected: { label: 'Disconnected', tone: 'bad' },
  NeverConnected: { label: 'Never connected', tone: 'quiet' },
};

const REASONS: Readonly<Record<string, string>> = {
  Manual: 'Maintenance was switched on',
  GroupMaintenance: 'Its group is in maintenance',
  Draining: 'It is drained: what runs goes on, nothing new is given to it',
  RequiresReconnection:
    'Two computers use this registration. On each of them run: halfway machine register --force',
  RequiresGroupKey:
    'It has not proved that it has the key of its group. On it run: halfway machine join-group',
  RequiresUpdate: 'Its machine service is older than this environment allows: update it',
};

const RUN_STATES: Readonly<Record<string, Word>> = {
  Queued: { label: 'Queued', tone: 'quiet' },
  Assigned: { label: 'Offered to a machine', tone: 'busy' },
  Starting: { label: 'Starting', tone: 'busy' },
  Running: { label: 'Running', tone: 'busy' },
  SafeStopping: { label: 'Asked to stop', tone: 'warn' },
  Cancelling: { label: 'Cancelling', tone: 'warn' },
  Succeeded: { label: 'Succeeded', tone: 'good' },
  Failed: { label: 'Failed', tone: 'bad' },
  Cancelled: { label: 'Cancelled', tone: 'quiet' },
  TimedOut: { label: 'Timed out', tone: 'bad' },
  Skipped: { label: 'Skipped', tone: 'quiet' },
  Lost: { label: 'Lost', tone: 'bad' },
};

export const RUN_STATE_NAMES: readonly string[] = Object.keys(RUN_STATES);

const OVER: ReadonlySet<string> = new Set([
  'Succeeded',
  'Failed',
  'Cancelled',
  'TimedOut',
  'Skipped',
  'Lost',
]);

/** Nothing more will happen to a run in this state. */
export function isOver(state: string): boolean {
  return OVER.has(state);
}

const EVENTS: Readonly<Record<string, string>> = {
  queued: 'Queued',
  machineSelected: 'Machine chosen',
  preChecks: 'Machine took it',
  machineReturnedError: 'Machine declined',
  returnedToQueue: 'Back in the queue',
  started: 'Start granted',
  running: 'Running',
  priorityChanged: 'Priority changed',
  movedToTop: 'Moved to the top',
  movedBack: 'Moved back to its place',
  cancelRequested: 'Asked to end',
  timeLimitReached: 'Time is over',
  completed: 'Completed',
  completedWithError: 'Ended with an error',
  blockedBySession: 'Waits for a session at the machine',
  callbackDelivered: 'Callback delivered',
  callbackFailed: 'Callback failed',
  resultRecovered: 'Result came late and was taken',
};

const CONNECTION_KINDS: Readonly<Record<string, string>> = {
  password: 'User name and password',
  vaultRef: 'Secret of a vault at the machine',
  none: 'Whoever is signed in',
};

export const machineStateWord = (state: string): Word => wordIn(MACHINE_STATES, state);
export const groupStateWord = (state: string): Word => wordIn(GROUP_STATES, state);
export const presenceWord = (state: string): Word => wordIn(PRESENCE_STATES, state);
export const runStateWord = (state: string): Word => wordIn(RUN_STATES, state);
export const eventText = (type: string): string => EVENTS[type] ?? type;
export const reasonText = (reason: string): string => REASONS[reason] ?? reason;
export const connectionKindText = (kind: string): string => CONNECTION_KINDS[kind] ?? kind;

function wordIn(words: Readonly<Record<string, Word>>, state: string): Word {
  return words[state] ?? { label: state, tone: 'quiet' };
}

/** What an error code means and what to do; the code itself when this page does not know it. */
export function codeText(code: string): string {
  return isJobErrorCode(code) ? JOB_ERRORS[code].text : code;
}

const GRANTS: Readonly<Record<string, string>> = {
  'co-owner': 'Co-owner: everything, sharing included',
  edit: 'Edit: use and change',
  use: 'Use',
  user: 'Use',
};
export const grantText = (grant: string): string => GRANTS[grant] ?? grant;
