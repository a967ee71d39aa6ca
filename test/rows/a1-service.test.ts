import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SERVICE_ACCOUNT, SERVICE_STATE } from '../../src/machine/state-folder.ts';
import { isolatedSystem, type IsolatedSystem } from '../support/isolated-system.ts';
import { startService, type DeskService } from '../support/machine-desk.ts';
import { freePort } from '../support/ports.ts';
import { RestCaller } from '../support/relay-machine.ts';
import { startRelay } from '../support/relay.ts';
import { someFolder } from '../support/some-folder.ts';
import { until } from '../support/within.ts';

// Row A1: installed as documented, the service has an account of its own that may do little, starts with the computer,
// and comes back by itself, whichever of the two ends is back first. The test is the service manager: what it starts,
// and as whom, it reads in the installed unit.

const ROOT = join(import.meta.dirname, '../..');
const UNIT = 'halfway-machine.service';
const BOOT = '/etc/systemd/system/multi-user.target.wants';
const API_TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const TEST_MS = 120_000;
/** A listener's pauses grow while its server is away. */
const RETURN_MS = 60_000;
/** Ids that systems give to people begin there. */
const PEOPLE_UID_MIN = 1_000;

/** Starts what the unit says, as the unit says. */
async function startUnit(system: IsolatedSystem): Promise<DeskService> {
  const unit = await system.run(['cat', `/etc/systemd/system/${UNIT}`]);
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  const [user, runtime] = [value('User'), `/run/${value('RuntimeDirectory')}`];
  await system.run(['install', '-d', '-o', user, '-m', value('RuntimeDirectoryMode'), runtime]);
  const credentials = ['setpriv', '--reuid', user, '--regid', value('Group'), '--init-groups'];
  const command = value('ExecStart').replace('$MACHINE_OPTIONS', '').split(' ').filter(Boolean);
  const line = [...system.behind, ...credentials, '--', ...command];
  return startService(line, { STATE_DIRECTORY: `/var/lib/${value('StateDirectory')}` });
}

function serverAt(port: number, data: string) {
  return startRelay({ dispatch: true, apiToken: API_TOKEN, port, data });
}

test(
  'installed, it is an account of its own at each start of the computer, and always comes back',
  async () => {
    await using system = await isolatedSystem();
    const installer = join(ROOT, 'deploy/machine/install.sh');
    const said = await system.run([installer, '--node', process.execPath]);
    expect(said).toContain(`sudo -u ${SERVICE_ACCOUNT} halfway machine register`);
    const [name, , uid, gid, , home, shell] = (
      await system.run(['getent', 'passwd', SERVICE_ACCOUNT])
    )
      .trim()
      .split(':');
    expect([name, home]).toEqual([SERVICE_ACCOUNT, SERVICE_STATE]);
    expect(shell).toMatch(/nologin$/);
    expect(Number(uid)).toBeGreaterThan(0);
    expect(Number(uid)).toBeLessThan(PEOPLE_UID_MIN);
    expect(await system.run(['id', '-G', SERVICE_ACCOUNT])).toBe(`${gid}\n`);
    expect(await system.run(['getent', 'shadow', SERVICE_ACCOUNT])).toMatch(/^[^:]+:[!*]+:/);
    const mode = ['stat', '-c', '%U %a', SERVICE_STATE];
    expect(await system.run(mode)).toBe(`${SERVICE_ACCOUNT} 700\n`);
    expect(await system.run(['readlink', '-f', `${BOOT}/${UNIT}`])).toContain(`/${UNIT}`);
    expect(await system.asked()).toEqual([
      'daemon-reload',
      `enable --quiet ${UNIT}`,
      `restart ${UNIT}`,
    ]);

    using place = someFolder();
    const port = await freePort();
    let server = await serverAt(port, place.path);
    try {
      const admin = new RestCaller(server.httpUrl, API_TOKEN);
      const base = '/environments/default';
      const { code } = await admin.get('POST', `${base}/activation-codes`, {});
      const register = ['halfway', 'machine', 'register', '--activation-code', '--json', '--quiet'];
      const asAccount = ['runuser', '-u', SERVICE_ACCOUNT, '--', ...register];
      const registered = JSON.parse(
        await system.run([...asAccount, '--endpoint', server.httpUrl], `${String(code)}\n`),
      );
      const path = `${base}/machines/${registered.machineId}`;
      /** Shown as connected, and does answer through the relay. */
      const connected = (): Promise<void> =>
        until(
          'the machine is connected',
          async () => {
            const { body } = await admin.call('GET', path);
            const { state } = Object(body['presence']);
            const echo = await admin.call('POST', `${path}:echo`);
            return state === 'Connected' && echo.body['status'] === 200;
          },
          RETURN_MS,
        );

      let service = await startUnit(system);
      await connected();
      const status = readFileSync(`/proc/${service.pid}/status`, 'utf8');
      expect(status).toMatch(new RegExp(`^Uid:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'));
      expect(status).toMatch(/^CapEff:\t0+$/m);

      // The computer: its processes are gone, and what it starts is there again.
      await service.kill();
      service = await startUnit(system);
      await connected();
      // The server alone.
      await server[Symbol.asyncDispose]();
      server = await serverAt(port, place.path);
      await connected();
      // Both, the server first.
      await service.kill();
      await server[Symbol.asyncDispose]();
      server = await serverAt(port, place.path);
      service = await startUnit(system);
      await connected();
      // Both, the computer first.
      await service.kill();
      await server[Symbol.asyncDispose]();
      service = await startUnit(system);
      await until('nobody there', () =>
        /Unreachable|Cannot reach|ECONNREFUSED/.test(service.output()),
      );
      server = await serverAt(port, place.path);
      await connected();
      await service.kill();
    } finally {
      await server[Symbol.asyncDispose]();
    }
  },
  TEST_MS,
);
