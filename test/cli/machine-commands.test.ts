import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { machineBench, member } from '../support/machine-bench.ts';
import { until, within } from '../support/within.ts';
import { commandResult, runCommand } from './run-command.ts';

/** A server, and commands of one computer whose state is in a folder of its own. */
async function computer() {
  const bench = await machineBench();
  const state = join(bench.place.path, 'pc');
  const env = { HALFWAY_ENDPOINT: bench.relay.httpUrl, HALFWAY_API_TOKEN: bench.apiToken };
  const file = (name: string, text: string): string => {
    const path = join(bench.place.path, name);
    writeFileSync(path, text);
    return path;
  };
  return {
    bench,
    state,
    env,
    file,
    machine: (...argv: readonly string[]) =>
      commandResult(['machine', ...argv, '--state', state], { env, input: '' }),
    run: (...argv: readonly string[]) =>
      runCommand(['machine', 'run', '--state', state, ...argv], { env }),
    [Symbol.asyncDispose]: bench[Symbol.asyncDispose],
  };
}

describe('register', () => {
  test('by an API token: prints name, id and the fingerprint that the server shows too', async () => {
    await using pc = await computer();
    const { exitCode, out, err } = await pc.machine(
      'register',
      '--name',
      'desk',
      '--labels',
      'a=1,b=2',
    );
    expect(exitCode).toBe(0);
    const id = /machine +(\S+) in default/.exec(out)?.[1] ?? '';
    const shown = await pc.bench.ask('GET', `/machines/${id}/public-key`);
    expect(out).toContain(`fingerprint ${member(shown, 'fingerprint')}`);
    expect(await pc.bench.ask('GET', `/machines/${id}`)).toMatchObject({
      name: 'desk',
      labels: { a: '1', b: '2' },
    });
    expect(err).toContain('the private keys are kept');
    expect(out + err).not.toContain(pc.bench.apiToken);
  });

  test('by an activation code from standard input, and by it alone only once', async () => {
    await using pc = await computer();
    const code = member(await pc.bench.ask('POST', '/activation-codes', {}), 'code');
    const argv = ['machine', 'register', '--activation-code-file', '-', '--json', '-q'];
    const env = { HALFWAY_ENDPOINT: pc.bench.relay.httpUrl };
    const first = await commandResult([...argv, '--state', pc.state], { env, input: `${code}\n` });
    expect(first).toMatchObject({ exitCode: 0, err: '' });
    expect(JSON.parse(first.out)).toMatchObject({ environment: 'default', tenant: 'default' });
    const other = join(pc.bench.place.path, 'other');
    const again = await commandResult([...argv, '--state', other], { env, input: `${code}\n` });
    expect(again.exitCode).toBe(1);
    expect(again.err).not.toContain(code);
  });

  test('a second time is refused, and with --force takes the place of the first', async () => {
    await using pc = await computer();
    await pc.machine('register', '--name', 'one');
    const again = await pc.machine('register', '--name', 'two');
    expect(again).toMatchObject({ exitCode: 1, out: '' });
    expect(again.err).toContain('--force');
    const forced = await pc.machine('register', '--name', 'two', '--force');
    expect(forced.out).toContain('whose connections are gone');
    const { items } = Object(await pc.bench.ask('GET', '/machines'));
    expect(items.map(({ name }: { readonly name: string }) => name)).toEqual(['two']);
  });

  test('a tenant that is not on the list is refused, and nothing is left at the server', async () => {
    await using pc = await computer();
    const code = member(await pc.bench.ask('POST', '/activation-codes', {}), 'code');
    for (const entrance of [[], ['--activation-code-file', pc.file('code', code)]]) {
      const { exitCode, err } = await pc.machine(
        'register',
        '--allowed-tenants',
        'ours',
        ...entrance,
      );
      expect(exitCode).toBe(1);
      expect(err).toContain('UnallowedTenantForConnectWithSignIn');
    }
    expect(await pc.bench.ask('GET', '/machines')).toMatchObject({ items: [] });
  });

  test('says what is missing and what is wrong', async () => {
    await using pc = await computer();
    const none = await commandResult(['machine', 'register', '--state', pc.state], { env: {} });
    expect(none).toMatchObject({ exitCode: 64 });
    expect(none.err).toContain('--endpoint');
    const wrong = await commandResult(['machine', 'register', '--state', pc.state], {
      env: { ...pc.env, HALFWAY_API_TOKEN: 'hwt_wrong' },
    });
    expect(wrong).toMatchObject({ exitCode: 1 });
    expect(wrong.err).toContain('TokenInvalid');
    const nobody = await pc.machine('register', '--endpoint', 'http://127.0.0.1:1');
    expect(nobody.err).toContain('Cannot reach http://127.0.0.1:1');
  });
});

test('run takes a run to its end; status, diagnose and unregister see it', async () => {
  await using pc = await computer();
  expect((await pc.machine('status')).exitCode).toBe(78);
  expect((await pc.machine('run')).exitCode).toBe(78);
  await pc.machine('register', '--name', 'desk', '-q');
  await using service = pc.run('--session-host', 'simulated');
  await service.saw('listening through the relay');
  await until('online', async () => (await pc.machine('status')).exitCode === 0);
  const status = JSON.parse((await pc.machine('status', '--json')).out);
  expect(status).toMatchObject({ isRunning: true, service: { channel: { state: 'online' } } });
  const target = { kind: 'machine', id: status.machineId } as const;
  const job = { ref: 'x', kind: 'simulated', script: {} };
  const connectionId = await pc.bench.connectTo(target);
  const run = await pc.bench.endOf(
    member(await pc.bench.ask('POST', '/runs', { connectionId, job }), 'id'),
  );
  expect(member(run, 'state')).toBe('Succeeded');
  const diagnosis = await pc.machine('diagnose');
  expect(diagnosis.err).toBe('');
  expect(diagnosis.out).toMatch(/OK +echo +through the relay and back/);
  expect(diagnosis.out).toMatch(/Open +127\.0\.0\.1:\d+/);
  expect(diagnosis.exitCode).toBe(0);
  expect((await pc.machine('unregister')).out).toContain('its keys are deleted');
  expect(await within('the end of the service', service.exitCode, 10_000)).toBe(0);
  expect((await pc.machine('status')).out).toContain('not registered');
}, 30_000);

test('diagnose without a server says what fails first, and tries nothing behind it', async () => {
  await using pc = await computer();
  const { exitCode, out, err } = await pc.machine(
    'diagnose',
    '--endpoint',
    'http://127.0.0.1:1',
    '--json',
  );
  expect(exitCode).toBe(1);
  expect(err).toBe('');
  const { ok, checks } = JSON.parse(out);
  const outcomes = Object.fromEntries(
    checks.map((one: { readonly check: string; readonly outcome: string }) => [
      one.check,
      one.outcome,
    ]),
  );
  expect(ok).toBe(false);
  expect(outcomes).toMatchObject({ name: 'OK', TCP: 'failed', 'control plane': 'not tried' });
});

test('groups: made, joined with the password, left; passwords are shown once and kept nowhere', async () => {
  await using pc = await computer();
  const group = member(await pc.bench.ask('POST', '/groups', { name: 'team' }), 'id');
  await pc.machine('register', '--name', 'one', '-q');
  const weak = await pc.machine(
    'join-group',
    group,
    '--password-file',
    pc.file('weak', 'password'),
  );
  expect(weak.err).toContain('too weak');
  const joined = await pc.machine('join-group', group);
  const password = /password +(\S{26})/.exec(joined.out)?.[1] ?? '';
  expect(password).toMatch(/^[a-z2-7]{26}$/);
  const changed = await pc.machine('change-group-password', '--json');
  const { generatedPassword } = JSON.parse(changed.out);
  expect(changed.err).toContain('the key is the same as before');

  const other = ['--state', join(pc.bench.place.path, 'other')];
  const second = (argv: readonly string[]) =>
    commandResult(['machine', ...argv, ...other], { env: pc.env, input: '' });
  await second(['register', '--name', 'two', '-q']);
  const old = await second(['join-group', group, '--password-file', pc.file('old', password)]);
  expect(old).toMatchObject({
    exitCode: 1,
    err: expect.stringContaining('group password is wrong'),
  });
  const good = await second([
    'join-group',
    group,
    '--password-file',
    pc.file('new', generatedPassword),
  ]);
  expect(good.exitCode).toBe(0);
  expect(/fingerprint (\S+)/.exec(good.out)?.[1]).toBe(/fingerprint (\S+)/.exec(joined.out)?.[1]);
  const left = await pc.machine('leave-group');
  expect(left.err).toContain('give the group a new key');
  expect(
    pc.bench
      .folderOf('pc')
      .names()
      .filter(name => name.startsWith('group.')),
  ).toEqual([]);
  const kept = pc.bench
    .folderOf('pc')
    .names()
    .filter(name => name.endsWith('.json'))
    .map(name => readFileSync(join(pc.state, name), 'utf8'));
  expect(kept.join()).not.toContain(password);
}, 30_000);
