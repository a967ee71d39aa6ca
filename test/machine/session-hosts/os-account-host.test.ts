import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Job, Offer } from '../../../src/jobs/messages.ts';
import type { CredentialOpener } from '../../../src/machine/ports.ts';
import { faultOf, OsAccountHost } from '../../../src/machine/session-hosts/os-account-host.ts';
import { makeAccount, requireRoot, type TestAccount } from '../../support/accounts.ts';
import { startMachineProcess } from '../../support/machine-process.ts';
import { controlBench, noOpener, startMachine } from '../../support/machine-runs.ts';
import { SecretSearch, searchMemory } from '../../support/secret-search.ts';
import { someFolder } from '../../support/some-folder.ts';
import { until } from '../../support/within.ts';

const SEALED: Partial<Offer> = {
  connection: { id: 'c1', version: 1, targetKind: 'machine', targetId: 'm1' },
  credential: { v: 1, suite: 'p256', kid: 'k'.repeat(43), enc: 'e'.repeat(87), ct: 'c'.repeat(64) },
};

function opens(user: string, password: string, domain = ''): CredentialOpener {
  return {
    ...noOpener,
    open: () => Promise.resolve({ user, domain, password: Buffer.from(password) }),
  };
}

/** What becomes of a job that says who it is. */
async function runAs(
  { name, password }: Pick<TestAccount, 'name' | 'password'>,
  command = ['/bin/sh', '-c', 'id -u; echo "$HOME"; pwd; echo "${HALFWAY_TOKEN-none}"'],
  job: Partial<Job> = {},
) {
  requireRoot();
  const control = await controlBench();
  await using machine = await startMachine(control, {
    host: new OsAccountHost({ unattended: 1 }),
    opener: opens(name, password),
    // The accounts come as far as this one, and not into a test's own folder.
    socketFolder: undefined,
  });
  const offer = await control.submitted({ command, ...job }, SEALED);
  await machine.door.offer(offer);
  const run = await control.ended(offer.runId, 30_000);
  return { run, log: await control.logOf(offer.runId) };
}

test('launch() signs in, and the job runs as the account and at its home', async () => {
  using account = makeAccount();
  const { run, log } = await runAs(account);
  expect(run).toMatchObject({ state: 'Succeeded', accountName: account.name });
  const [uid, home, folder, token] = log.split('\n');
  expect(uid).toBe(String(account.uid));
  expect(home).toBe(`/home/${account.name}`);
  expect(folder).toMatch(/^\/tmp\//);
  expect(token).toBe('none');
});

test('launch() takes the forms that name an account of this computer', async () => {
  using account = makeAccount();
  for (const name of [`.\\${account.name}`, `local\\${account.name}`]) {
    const { run } = await runAs({ ...account, name }, ['true']);
    expect(run.state).toBe('Succeeded');
  }
});

test('launch() never takes an account of this computer for one of a domain', async () => {
  using account = makeAccount();
  const { run } = await runAs({ ...account, name: `CONTOSO\\${account.name}` });
  expect(run.fault?.code).toBe('WindowsIdentityIncorrect');
});

test.each([
  ['a wrong password', { password: 'not it' }, {}, 'SessionCreationInvalidCredentials'],
  ['no password', { password: '' }, {}, 'SessionCreationInvalidCredentials'],
  ['a password of two lines', { password: 'one\ntwo' }, {}, 'SessionCreationInvalidCredentials'],
  ['an account that is not there', { name: 'hwnobodyatall' }, {}, 'WindowsIdentityIncorrect'],
  ['an option for a name', { name: '-c' }, {}, 'WindowsIdentityIncorrect'],
  ['an expired account', {}, { setUp: [['chage', '-E', '0', '%']] }, 'AccountLockedOut'],
  ['a locked account', {}, { setUp: [['usermod', '-L', '%']] }, 'AccountLockedOut'],
  ['an account without a shell', {}, { shell: '/usr/sbin/nologin' }, 'LogonTypeNotGranted'],
  ['an account whose shell is false', {}, { shell: '/bin/false' }, 'LogonTypeNotGranted'],
  [
    'a password that must be changed',
    {},
    { setUp: [['chage', '-d', '0', '%']] },
    'SessionCreationInvalidCredentials',
  ],
])('launch() fails for %s, and nothing runs', async (_name, change, options, code) => {
  using account = makeAccount(options);
  const { run, log } = await runAs({ ...account, ...change });
  expect(run).toMatchObject({ state: 'Failed', fault: { code } });
  expect(log).toBe('');
});

test('an asset is fetched by the account, through the proxy of its own environment', async () => {
  const content = '#!/bin/sh\necho "asset of $(id -un)"\n';
  const asked: string[] = [];
  const proxy = createServer(({ url = '' }, response) => {
    asked.push(url);
    response.end(content);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  using account = makeAccount();
  const profile = `/home/${account.name}/.profile`;
  writeFileSync(profile, `export http_proxy=http://127.0.0.1:${address.port}\n`);
  chmodSync(profile, 0o644);
  const asset = {
    url: 'http://assets.example/driver',
    sha256: createHash('sha256').update(content).digest('hex'),
  };
  const { run, log } = await runAs(account, ['/bin/sh', '-c', '"$HALFWAY_ASSET"'], { asset });
  proxy.close();
  expect([run.state, log]).toEqual(['Succeeded', `asset of ${account.name}\n`]);
  expect(asked).toEqual([asset.url]);
});

test('a job of another account is ended with all of its processes', async () => {
  using account = makeAccount();
  const control = await controlBench();
  await using machine = await startMachine(control, {
    host: new OsAccountHost({ unattended: 1 }),
    opener: opens(account.name, account.password),
    socketFolder: undefined,
  });
  const offer = await control.submitted(
    { command: ['/bin/sh', '-c', 'setsid sleep 300 & exec sleep 300'] },
    SEALED,
  );
  await machine.door.offer({ ...offer, limits: { ...offer.limits, runSeconds: 1 } });
  await expect(control.ended(offer.runId, 30_000)).resolves.toMatchObject({ state: 'TimedOut' });
  await until('the end of all', () => processesOfAccount(account.uid).length === 0);
});

test('a service that is not root signs in as well, and ends what it may not end itself', async () => {
  using account = makeAccount();
  using service = makeAccount();
  using home = someFolder();
  chmodSync(home.path, 0o711);
  const folder = join(home.path, 'of-service');
  mkdirSync(folder, { mode: 0o711 });
  chownSync(folder, service.uid, service.uid);
  const control = await controlBench();
  const machine = await startMachineProcess(
    {
      folder: join(folder, 'jobs'),
      socketFolder: join(folder, 's'),
      instance: 'i1',
      host: 'os-account',
      credential: { user: account.name, password: account.password },
    },
    control.reporter,
    { uid: service.uid, gid: service.uid },
  );
  const done = await control.submitted({ command: ['id', '-u'] }, SEALED);
  await machine.offer(done);
  await expect(control.ended(done.runId, 30_000)).resolves.toMatchObject({ state: 'Succeeded' });
  await expect(control.logOf(done.runId)).resolves.toBe(`${account.uid}\n`);
  // An executor that does not answer any more: only what signed in for it may end it.
  const hung = await control.submitted(
    { command: ['/bin/sh', '-c', 'kill -STOP $PPID; exec sleep 300'] },
    SEALED,
  );
  await machine.offer({ ...hung, limits: { ...hung.limits, runSeconds: 1 } });
  await expect(control.ended(hung.runId, 60_000)).resolves.toMatchObject({ state: 'TimedOut' });
  expect(processesOfAccount(account.uid)).toEqual([]);
  await machine.kill();
}, 120_000);

test('no process of the account has the password in its memory, or a way to where it came from', async () => {
  using account = makeAccount({ password: `${randomBytes(12).toString('hex')} "ä` });
  using home = someFolder();
  chmodSync(home.path, 0o711);
  const control = await controlBench();
  const machine = await startMachineProcess(
    {
      folder: join(home.path, 'jobs'),
      socketFolder: join(home.path, 's'),
      instance: 'i1',
      host: 'os-account',
      credential: { user: account.name, password: account.password },
    },
    control.reporter,
  );
  const planted = randomBytes(12).toString('hex');
  const command = ['/bin/sh', '-c', 'read -r _; echo begun; exec sleep 300'];
  const offer = await control.submitted({ command }, { ...SEALED, inputs: { planted } });
  await machine.offer(offer);
  const log = () => control.logOf(offer.runId);
  await until('the job', async () => (await log()).includes('begun'), 30_000);
  const pids = processesOfAccount(account.uid).map(Number);
  const executors = pids.filter(pid => textOf(pid, 'cmdline').includes('executor'));
  const jobs = pids.filter(pid => textOf(pid, 'comm') === 'sleep\n');
  expect([executors.length, jobs.length]).toEqual([1, 1]);
  const search = new SecretSearch([account.password, planted]);
  const found = pids.map(pid => searchMemory(pid, search));
  expect(found.filter(secrets => secrets.has(account.password))).toEqual([]);
  // The search finds what is there.
  const [executor = 0] = executors;
  expect(found[pids.indexOf(executor)]?.has(planted)).toBe(true);
  expect(searchMemory(machine.pid, search).has(account.password)).toBe(true);
  const launcher = childrenOf(machine.pid).find(pid => textOf(pid, 'comm') === 'su\n') ?? 0;
  const pipe = readlinkSync(`/proc/${launcher}/fd/0`);
  expect(pipe).toMatch(/^(?:socket|pipe):/);
  expect(pids.flatMap(filesOf)).not.toContain(pipe);
  expect(filesOf(executor)[0]).toBe('/dev/null');
  for (const pid of jobs) {
    expect(filesOf(pid).filter(file => !/^(?:socket|pipe):/.test(file))).toEqual([]);
    process.kill(pid, 'SIGKILL');
  }
  await control.ended(offer.runId, 30_000);
  await machine.kill();
}, 90_000);

function textOf(pid: number, file: string): string {
  return readFileSync(`/proc/${pid}/${file}`, 'latin1');
}

function childrenOf(pid: number): readonly number[] {
  return textOf(pid, `task/${pid}/children`).trim().split(' ').map(Number);
}

/** What it has open, by their numbers. */
function filesOf(pid: number): readonly string[] {
  const numbers = readdirSync(`/proc/${pid}/fd`).map(Number);
  return numbers
    .toSorted((one, other) => one - other)
    .map(number => readlinkSync(`/proc/${pid}/fd/${number}`));
}

function processesOfAccount(uid: number): readonly string[] {
  return readdirSync('/proc').filter(
    name => /^\d+$/.test(name) && statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid === uid,
  );
}

test('a door whose sockets other accounts cannot reach does not open', async () => {
  const control = await controlBench();
  const opened = startMachine(control, { host: new OsAccountHost({ unattended: 1 }) });
  await expect(opened).rejects.toThrow(/other accounts may not pass through/);
});

test('check() takes unattended runs with credentials only', () => {
  const host = new OsAccountHost({ unattended: 1 });
  const wish = { account: undefined, hasCredential: true, reuseSession: false };
  expect(host.check({ ...wish, mode: 'unattended' })).toBeUndefined();
  expect(host.check({ ...wish, mode: 'attended' })?.code).toBe('AttendedUserNotLoggedIn');
  const bare = host.check({ ...wish, mode: 'unattended', hasCredential: false });
  expect(bare?.code).toBe('UnattendedUnsupportedWithOldConnection');
});

test.each([
  ['su: must be suid to work properly', 'UIFlowServiceNoRdpPermissions'],
  ['Password: su: Permission denied\n', 'LogonTypeNotGranted'],
  ['The account is locked due to 3 failed logins.\nsu: Authentication failure', 'AccountLockedOut'],
  ['sh: 1: exec: /opt/node: Permission denied', 'AgentHasNotStarted'],
  ['su: cannot open session: Module is unknown', 'SessionCreationError'],
])('faultOf() reads what su says: %s', (said, code) => {
  const end = { code: 1, signal: undefined, said };
  expect(faultOf(end, { shell: '/bin/sh', isLocked: false }).code).toBe(code);
});
