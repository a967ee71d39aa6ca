import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until, within } from './within.ts';

/** The built program, as it runs on machines. `npm test` builds dist/ before. */
const MAIN = join(import.meta.dirname, '../../dist/main.js');
const START_MS = 60_000;
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
  /** Attempts that it still has files of. */
  inHand(): readonly { readonly runId: string; readonly fence: number }[];
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Registers this computer once more. The program is not started yet. */
export async function registerProgram(options: MachineProgramOptions): Promise<MachineProgram> {
  const { endpoint, apiToken, name, state, socketFolder, unattended } = options;
  const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], ...options.env };
  const command = async (argv: readonly string[], more = {}): Promise<unknown> => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [MAIN, 'machine', ...argv, '--state', state, '--json', '--quiet'],
      { env: { ...env, HALFWAY_API_TOKEN: apiToken, ...more }, timeout: START_MS },
    );
    return JSON.parse(stdout);
  };
  const registration = ['register', '--name', name, '--endpoint', endpoint];
  const { machineId } = Object(await command(registration));
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
    id: String(machineId),
    get isRunning() {
      return isRunning();
    },
    output: () => chunks.join(''),
    async start() {
      const before = chunks.length;
      const argv = ['machine', 'run', '--state', state, '--socket-folder', socketFolder];
      const started = spawn(process.execPath, [MAIN, ...argv, '--unattended', `${unattended}`], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env,
      });
      child = started;
      running.add(started);
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
      await command(['join-group', groupId], { HALFWAY_GROUP_PASSWORD: password });
    },
    inHand: () =>
      readdirSync(join(state, 'jobs/runs')).flatMap(folder => {
        const [, runId, fence] = RUN_FOLDER.exec(folder) ?? [];
        return runId === undefined ? [] : [{ runId, fence: Number(fence) }];
      }),
    [Symbol.asyncDispose]: kill,
  };
}
