import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { DRAIN_TIMEOUT_MS } from '../../src/machine/machine-service.ts';
import { SERVICE_ACCOUNT, SERVICE_STATE } from '../../src/machine/state-folder.ts';
import { someFolder } from '../support/some-folder.ts';

const run = promisify(execFile);
const FOLDER = join(import.meta.dirname, '../../deploy/machine');
const UNIT = readFileSync(join(FOLDER, 'halfway-machine.service'), 'utf8');
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

/** Settings as they count: without comments. */
const settings = UNIT.split('\n').filter(line => /^[A-Z]\w+=/.test(line));
const value = (name: string): string | undefined =>
  settings.find(line => line.startsWith(`${name}=`))?.slice(name.length + 1);

describe('halfway-machine.service', () => {
  test.runIf(hasSystemd)('is one that systemd has nothing to say against', async () => {
    using place = someFolder();
    const unit = join(place.path, 'halfway-machine.service');
    writeFileSync(unit, UNIT.replace('/usr/bin/node', process.execPath));
    const { stdout, stderr } = await run('systemd-analyze', ['verify', unit]);
    expect(stdout + stderr).toBe('');
  });

  test('runs as an account of its own, in the folder that the program looks in', () => {
    expect(value('User')).toBe(SERVICE_ACCOUNT);
    expect(`/var/lib/${value('StateDirectory')}`).toBe(SERVICE_STATE);
    expect(value('StateDirectoryMode')).toBe('0700');
    expect(value('Restart')).toBe('always');
    expect(value('LimitCORE')).toBe('0');
  });

  test('leaves time for a whole drain, and leaves executors alone', () => {
    expect(Number(value('TimeoutStopSec')) * 1_000).toBeGreaterThan(DRAIN_TIMEOUT_MS + 5_000);
    expect(value('KillMode')).toBe('process');
    expect(value('RuntimeDirectoryPreserve')).toBe('yes');
  });

  test('has nothing that would keep su from signing in', () => {
    expect(value('NoNewPrivileges')).toBe('no');
    // Each of these turns NoNewPrivileges on for a service with User=. Source: systemd.exec(5).
    const turnsItOn = [
      'DynamicUser',
      'LockPersonality',
      'MemoryDenyWriteExecute',
      'PrivateDevices',
      'ProtectClock',
      'ProtectHostname',
      'ProtectKernelLogs',
      'ProtectKernelModules',
      'ProtectKernelTunables',
      'RestrictAddressFamilies',
      'RestrictNamespaces',
      'RestrictRealtime',
      'RestrictSUIDSGID',
      'SystemCallArchitectures',
      'SystemCallFilter',
    ];
    expect(turnsItOn.filter(name => value(name) !== undefined)).toEqual([]);
    for (const capability of ['CAP_SETUID', 'CAP_SETGID', 'CAP_AUDIT_WRITE']) {
      expect(value('CapabilityBoundingSet')?.split(' ')).toContain(capability);
    }
  });
});

describe('install.sh', () => {
  test('puts files in place, again without a change, and takes them away', async () => {
    using place = someFolder();
    const program = join(place.path, 'program');
    const root = join(place.path, 'root');
    mkdirSync(join(program, 'dist'), { recursive: true });
    writeFileSync(join(program, 'dist/main.js'), 'console.log(process.argv.slice(2).join(" "));\n');
    const install = (...more: readonly string[]) =>
      run(join(FOLDER, 'install.sh'), [
        '--root',
        root,
        '--program',
        program,
        '--node',
        process.execPath,
        ...more,
      ]);
    const unit = join(root, 'etc/systemd/system/halfway-machine.service');
    const environment = join(root, 'etc/halfway/machine.environment');
    const command = join(root, 'usr/local/bin/halfway');

    expect((await install()).stdout).toContain('halfway machine register');
    const first = readFileSync(unit, 'utf8');
    expect(first).toContain(
      `ExecStart=${process.execPath} --enable-source-maps ${program}/dist/main.js machine run`,
    );
    expect(statSync(join(root, 'var/lib/halfway-machine')).mode & 0o777).toBe(0o700);
    expect((await run(command, ['machine', 'status'])).stdout).toBe('machine status\n');

    writeFileSync(environment, 'HTTPS_PROXY=http://proxy:3128\n');
    writeFileSync(join(root, 'var/lib/halfway-machine/machine.json'), '{}');
    expect((await install()).stdout).toBe('installed\n');
    expect(readFileSync(unit, 'utf8')).toBe(first);
    expect(readFileSync(environment, 'utf8')).toContain('proxy:3128');

    await install('--uninstall');
    expect(() => statSync(unit)).toThrow(/ENOENT/);
    expect(() => statSync(command)).toThrow(/ENOENT/);
    expect(statSync(join(root, 'var/lib/halfway-machine/machine.json')).isFile()).toBe(true);
    await install('--uninstall', '--purge');
    expect(() => statSync(join(root, 'var/lib/halfway-machine'))).toThrow(/ENOENT/);
    await install('--uninstall');
  });

  test('says what is missing, and what it does not know', async () => {
    using place = someFolder();
    const script = join(FOLDER, 'install.sh');
    const nothing = run(script, ['--root', place.path, '--program', place.path]);
    await expect(nothing).rejects.toThrow(/no built program/);
    await expect(run(script, ['--frobnicate'])).rejects.toMatchObject({ code: 64 });
  });
});
