import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { JobErrorCode } from '../../../src/jobs/error-codes.ts';
import { parseAccountName } from '../../../src/machine/account-name.ts';
import type { CredentialOpener } from '../../../src/machine/ports.ts';
import { openSessionHost } from '../../../src/machine/session-hosts/open-session-host.ts';
import {
  SimulatedHost,
  type SimulatedTable,
} from '../../../src/machine/session-hosts/simulated-host.ts';
import { controlBench, noOpener, startMachine } from '../../support/machine-runs.ts';
import { someFolder } from '../../support/some-folder.ts';
import { until } from '../../support/within.ts';

const ann = (state: 'active' | 'locked' | 'disconnected') => ({ user: 'CONTOSO\\ann', state });
const bob = { user: 'bob', state: 'active' } as const;

function checked(table: SimulatedTable, mode: 'attended' | 'unattended', user = 'contoso\\ANN') {
  const account = parseAccountName(user);
  const wish = { mode, account, hasCredential: true, reuseSession: false };
  return new SimulatedHost(() => table).check(wish)?.code;
}

test.each<[SimulatedTable, 'attended' | 'unattended', JobErrorCode | undefined]>([
  [{}, 'attended', 'AttendedUserNotLoggedIn'],
  [{ sessions: [bob] }, 'attended', 'AttendedUserNotLoggedIn'],
  [{ sessions: [ann('locked')] }, 'attended', 'AttendedUserSessionNotActive'],
  [{ sessions: [ann('disconnected')] }, 'attended', 'AttendedUserSessionNotActive'],
  [{ sessions: [bob, ann('active')] }, 'attended', undefined],
  [{}, 'unattended', undefined],
  [{ sessions: [ann('active')] }, 'unattended', 'SessionExistsForTheUserWhenUnattended'],
  [{ sessions: [ann('locked')] }, 'unattended', 'UnattendedUserSessionLocked'],
  [{ sessions: [ann('disconnected')] }, 'unattended', 'UnattendedUserSessionDisconnected'],
  [{ sessions: [bob] }, 'unattended', undefined],
  [{ sessions: [bob], system: 'desktop' }, 'unattended', 'Win10AlreadyHasActiveSession'],
  [{ sessions: [bob], sessionsMax: 1 }, 'unattended', 'TooManyActiveSessions'],
  [{ isRecording: true }, 'unattended', 'ExistingRecordingSession'],
  [{ isRunningLocally: true }, 'attended', 'LocalPlaybackOrRecordingOngoing'],
])('check() with %j, %s: %s', (table, mode, code) => {
  expect(checked(table, mode)).toBe(code);
});

const opens = (user: string, password = 'right'): CredentialOpener => ({
  ...noOpener,
  open: () => Promise.resolve({ user, password: Buffer.from(password) }),
});

const SEALED = {
  connection: { id: 'c1', version: 1, targetKind: 'machine', targetId: 'm1' },
  credential: { v: 1, suite: 'p256', kid: 'k'.repeat(43), enc: 'e'.repeat(87), ct: 'c'.repeat(64) },
} as const;

const users = [{ name: 'ann', password: 'right' }];

test.each<[JobErrorCode | 'Succeeded', SimulatedTable, CredentialOpener]>([
  ['Succeeded', { users }, opens('ann')],
  ['Succeeded', {}, opens('anybody', 'anything')],
  ['WindowsIdentityIncorrect', { users }, opens('zoe')],
  ['SessionCreationInvalidCredentials', { users }, opens('ann', 'wrong')],
  ['AccountLockedOut', { users: [{ name: 'ann', isLockedOut: true }] }, opens('ann')],
  ['LogonTypeNotGranted', { users: [{ name: 'ann', mayLogOn: false }] }, opens('ann')],
  [
    'RdpPermissionNotGranted',
    { users: [{ name: 'ann', mayUseRemoteSessions: false }] },
    opens('ann'),
  ],
  ['RDPIsNotEnabled', { hasRemoteSessions: false }, opens('ann')],
  ['UIFlowServiceNoRdpPermissions', { mayMakeSessions: false }, opens('ann')],
  ['SessionCreationError', { signInFault: 'SessionCreationError' }, opens('ann')],
  ['SessionNotFoundAfterCreation', { signInFault: 'SessionNotFoundAfterCreation' }, opens('ann')],
])('launch() ends with %s', async (code, table, opener) => {
  const control = await controlBench();
  await using machine = await startMachine(control, {
    host: new SimulatedHost(() => table),
    opener,
  });
  const offer = await control.submitted({ kind: 'probe' }, SEALED);
  await machine.door.offer(offer);
  const { state, fault } = await control.ended(offer.runId);
  expect(fault?.code ?? state).toBe(code);
});

test('a session of a run is there while it runs, and kept for the next one where that is wanted', async () => {
  const control = await controlBench();
  const host = new SimulatedHost(() => ({
    system: 'desktop',
    capacity: { unattended: 2, attended: 0 },
  }));
  await using machine = await startMachine(control, { host, opener: opens('ann') });
  const job = { kind: 'simulated', script: { steps: [{ waitMs: 60_000 }] } } as const;
  const first = await control.submitted(job, { ...SEALED, options: { reuseSession: true } });
  await machine.door.offer(first);
  await until('the session', () => host.sessions().length === 1, 20_000);
  expect(host.sessions()).toEqual([{ user: 'ann', state: 'locked' }]);
  const meanwhile = await control.submitted(job, SEALED);
  await expect(machine.door.offer(meanwhile)).resolves.toMatchObject({
    code: 'UnattendedUserSessionLocked',
    retryAfterSeconds: 20,
  });
  await until('it runs', async () => (await control.state(first.runId)) === 'Running', 20_000);
  host.endSession('ann', 'SessionHasLoggedOffWithMaxIdleTime');
  const { fault } = await control.ended(first.runId);
  expect(fault?.code).toBe('SessionHasLoggedOffWithMaxIdleTime');
  expect(host.sessions()).toHaveLength(1);
  const probe = { kind: 'probe' } as const;
  const next = await control.submitted(probe, { ...SEALED, options: { reuseSession: true } });
  await machine.door.offer(next);
  await control.ended(next.runId);
  expect(host.sessions()).toHaveLength(1);
});

test('openSessionHost() reads the table of a simulated host anew each time', () => {
  using folder = someFolder();
  const tablePath = join(folder.path, 'table.json');
  const write = (table: SimulatedTable): void => writeFileSync(tablePath, JSON.stringify(table));
  write({ capacity: { unattended: 3, attended: 2 } });
  const host = openSessionHost({ kind: 'simulated', unattended: 1, attended: 1, tablePath });
  expect(host.capacity()).toEqual({ unattended: 3, attended: 2 });
  write({ sessions: [bob] });
  expect(host.sessions()).toEqual([bob]);
  writeFileSync(tablePath, '{"sessions":1}');
  const other = () => openSessionHost({ kind: 'simulated', unattended: 1, attended: 1, tablePath });
  expect(other).toThrow(/Expected Array/);
});
