import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sealCredentials, targetKeyOf } from '../../src/dispatch-client/sealing.ts';
import { endWith } from './redis.ts';
import type { RestCaller } from './relay-machine.ts';
import { until, within } from './within.ts';

/** The built program, as it runs on machines. `npm test` builds dist/ before. */
const MAIN = join(import.meta.dirname, '../../dist/main.js');
const START_MS = 60_000;
const ENV = { PATH: process.env['PATH'], HOME: process.env['HOME'] };
const RUN_FOLDER = /^run-(.+)\.(\d+)$/;

export interface MachineProgramOptions {
  readonly endpoint: string;
  readonly apiToken: string;
  readonly name: string;
  /** Of its own. */
  readonly state: string;
  /** Short: sockets have short paths. */
  readonly socketFolder: string;
  /** Runs at once. */
  readonly unattended: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** `halfway machine run` as a process of its own, with one state folder over all its lives. */
export interface MachineProgram extends AsyncDisposable {
  readonly name: string;
  readonly id: string;
  readonly isRunning: boolean;
  /** Of all its lives. */
  readonly output: () => string;
  /** Resolves when it has taken up what its last life left. */
  start(): Promise<void>;
  kill(): Promise<void>;
  /** The first of a group gives it this password, the others need it. */
  joinGroup(groupId: string, password: string): Promise<void>;
  /** How long its files may become from now on, in bytes or `unlimited`: 0 is as good as a full disk. */
  limitFiles(bytes: string): void;
  /** A copy of it, with a folder that was copied. */
  copyAt(state: string, socketFolder: string): MachineProgram;
  /** Attempts that it still has files of. */
  inHand(): readonly { readonly runId: string; readonly fence: number }[];
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Registers this computer once more. The program is not started yet. */
export async function registerProgram(options: MachineProgramOptions): Promise<MachineProgram> {
  const { endpoint, name } = options;
  const registration = ['register', '--name', name, '--endpoint', endpoint];
  const { machineId } = Object(await command(options, registration));
  return machineProgram(options, String(machineId));
}

/** `halfway machine …`, to its end; returns what it prints. */
async function command(
  { state, apiToken, env }: MachineProgramOptions,
  argv: readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [MAIN, 'machine', ...argv, '--state', state, '--json', '--quiet'],
    { env: { ...ENV, ...env, HALFWAY_API_TOKEN: apiToken, ...more }, timeout: START_MS },
  );
  return JSON.parse(stdout);
}

function machineProgram(options: MachineProgramOptions, id: string): MachineProgram {
  const { name, state, socketFolder, unattended } = options;
  const chunks: string[] = [];
  let child: ChildProcess | undefined;
  const isRunning = (): boolean => child?.exitCode === null && child.signalCode === null;
  const kill = async (): Promise<void> => {
    if (child === undefined || !isRunning()) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await within(`the end of ${name}`, ended, START_MS);
  };
  return {
    name,
    id,
    get isRunning() {
      return isRunning();
    },
    output: () => chunks.join(''),
    async start() {
      const before = chunks.length;
      const argv = ['machine', 'run', '--state', state, '--socket-folder', socketFolder];
      const started = spawn(process.execPath, [MAIN, ...argv, '--unattended', `${unattended}`], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...ENV, ...options.env },
      });
      child = started;
      running.add(started);
      endWith(started);
      started.once('exit', () => running.delete(started));
      for (const stream of [started.stdout, started.stderr]) {
        stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
      }
      const says = (): string => chunks.slice(before).join('');
      await until(
        `${name} runs`,
        () => says().includes('machine service started') || !isRunning(),
        START_MS,
      );
      if (started.exitCode !== null) throw new Error(`${name} has ended: ${says()}`);
    },
    kill,
    async joinGroup(groupId, password) {
      await command(options, ['join-group', groupId], { HALFWAY_GROUP_PASSWORD: password });
    },
    limitFiles: bytes => {
      execFileSync('prlimit', ['--pid', String(child?.pid), `--fsize=${bytes}:unlimited`]);
    },
    copyAt: (copied, sockets) =>
      machineProgram({ ...options, state: copied, socketFolder: sockets }, id),
    inHand: () =>
      readdirSync(join(state, 'jobs/runs')).flatMap(folder => {
        const [, runId, fence] = RUN_FOLDER.exec(folder) ?? [];
        return runId === undefined ? [] : [{ runId, fence: Number(fence) }];
      }),
    [Symbol.asyncDispose]: kill,
  };
}

/** As many runs at once as the owner allows it. */
export async function allocate(
  admin: RestCaller,
  { id }: Pick<MachineProgram, 'id'>,
  allocatedBots: number,
): Promise<void> {
  const path = `/environments/default/machines/${id}`;
  const { version } = await admin.get('GET', path);
  const ifMatch = { 'if-match': `"${String(version)}"` };
  const { status } = await admin.call('PATCH', path, { allocatedBots }, ifMatch);
  if (status !== 200) throw new Error(`The machine was not changed: ${status}`);
}

/** A connection with the account of this process, which the session host `process` asks no password of. */
export async function connectionOfAccount(
  admin: RestCaller,
  target: { readonly kind: 'machine' | 'group'; readonly id: string },
): Promise<string> {
  const path = `/environments/default/${target.kind}s/${target.id}/public-key`;
  const { kid, suite, point } = await admin.get('GET', path);
  const holder = { tenant: 'default', environment: 'default', ...target, kid: String(kid) };
  const key = await targetKeyOf(holder, { suite: String(suite), point: String(point) });
  const id = randomUUID();
  const credential = { domain: '', user: userInfo().username, password: 'of nobody' };
  const envelope = await sealCredentials(key, { id, credentialVersion: 1 }, credential);
  const body = { id, name: `to ${target.id}`, kind: 'password', target, envelope };
  return String((await admin.get('POST', '/environments/default/connections', body))['id']);
}
