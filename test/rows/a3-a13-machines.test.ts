import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { userInfo } from 'node:os';
import { expect, test } from 'vitest';
import { decodeBase64Url } from '../../src/crypto/base64url.ts';
import { fingerprintOf } from '../../src/crypto/fingerprint.ts';
import { keyIdOf } from '../../src/crypto/key-id.ts';
import { Commands } from '../support/command-machine.ts';
import { connect } from '../support/lying-server.ts';
import { RestCaller } from '../support/relay-machine.ts';
import { startRelay } from '../support/relay.ts';
import { someFolder } from '../support/some-folder.ts';
import { until, within } from '../support/within.ts';

// Rows of job-dispatch.md section 1 about machines, each as it is to be shown.

const TOKEN = 'hwt_token-of-the-first-administrator-of-tests';
const MAIN = join(import.meta.dirname, '../../src/main.ts');
const TEST_MS = 90_000;
const START_MS = 40_000;

test(
  'A3: a job reaches a machine whose service, and all it has started, listen on no socket of the network',
  async () => {
    await using relay = await startRelay({ dispatch: true, apiToken: TOKEN });
    using folder = someFolder();
    const commands = new Commands(relay.httpUrl, TOKEN, folder.path);
    const desk = await commands.register('desk');
    await using service = await startService(commands, 'desk');
    const connection = await connect(commands, ['--machine', desk.id], userInfo().username);
    const start = ['run', 'start', '--connection', connection, '--', 'sleep', '60'];
    const id = String((await commands.json(start))['id']);
    const state = async (): Promise<unknown> => (await commands.json(['run', 'show', id]))['state'];
    await until('the job runs', async () => (await state()) === 'Running', START_MS);
    const processes = withDescendants(service.pid);
    // The service, the executor and the job.
    expect(processes.length).toBeGreaterThanOrEqual(3);
    expect(processes.flatMap(openPorts)).toEqual([]);
    // It has the connection that it dialled, and the table shows who does listen.
    expect(socketsOf(service.pid).some(({ state: tcp }) => tcp === ESTABLISHED)).toBe(true);
    expect(openPorts(process.pid)).toContain(relay.port);
    await commands.ok(['run', 'cancel', id, '--mode', 'kill']);
    await until('the job is over', async () => (await state()) === 'Cancelled', START_MS);
  },
  TEST_MS,
);

test('A13: the public key of a machine stands in its record, with the fingerprint that it shows itself', async () => {
  await using relay = await startRelay({ dispatch: true, apiToken: TOKEN });
  using folder = someFolder();
  const commands = new Commands(relay.httpUrl, TOKEN, folder.path);
  const { id, fingerprint } = await commands.register('desk');
  const rest = new RestCaller(relay.httpUrl, TOKEN);
  const record = await rest.get('GET', `/environments/default/machines/${id}`);
  const key = await rest.get('GET', `/environments/default/machines/${id}/public-key`);
  const { kid, suite, point } = Object(record['encryptionKey']);
  expect(key).toEqual({ kid, suite, point, fingerprint });
  expect(record['fingerprint']).toBe(fingerprint);
  const computed = await keyIdOf(decodeBase64Url(point) ?? Buffer.of());
  expect([computed, fingerprintOf(computed)]).toEqual([kid, fingerprint]);
  // Private halves are where they were made, in files of this account alone; test/machine/machine-service.test.ts
  // looks for them in all that leaves the machine.
  const files = readdirSync(commands.stateOf('desk')).filter(name => name.endsWith('.key'));
  expect(files.toSorted()).toEqual([
    expect.stringContaining(`encryption.${kid}`),
    expect.stringContaining('identity.'),
  ]);
});

/** The service as a process of its own, which listens through the relay. */
async function startService(commands: Commands, machine: string) {
  const argv = ['machine', 'run', '--state', commands.stateOf(machine)];
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', MAIN, ...argv], {
    env: { ...commands.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { pid, stdout } = child;
  if (pid === undefined || stdout === null) throw new Error('it did not start');
  let said = '';
  stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the service listens', () => said.includes('listening through the relay'), START_MS);
  return {
    pid,
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await within('the end of the service', ended);
    },
  };
}

function withDescendants(pid: number): readonly number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  const children = readFileSync(path, 'utf8').split(' ').filter(Boolean).map(Number);
  return [pid, ...children.flatMap(withDescendants)];
}

const ESTABLISHED = '01';
const LISTENING = '0A';
/** UDP has no other state for a socket that takes from anybody. */
const UNCONNECTED = '07';

/** Where a process takes what others send first, by the system's socket tables. */
function openPorts(pid: number): readonly number[] {
  return socketsOf(pid)
    .filter(({ state }) => state === LISTENING || state === UNCONNECTED)
    .map(({ port }) => port);
}

function socketsOf(pid: number): readonly { readonly port: number; readonly state: string }[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap(name => {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(linkAt(`/proc/${pid}/fd/${name}`)) ?? [];
      return inode === undefined ? [] : [inode];
    }),
  );
  return ['tcp', 'tcp6', 'udp', 'udp6']
    .flatMap(table => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n').slice(1))
    .map(line => line.trim().split(/\s+/))
    .filter(fields => inodes.has(fields[9] ?? ''))
    .map(([, local = '', , state = '']) => ({
      port: parseInt(local.split(':')[1] ?? '', 16),
      state,
    }));
}

function linkAt(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return '';
  }
}
