import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { until, within } from './within.ts';

/** The built program, as it runs on machines. `npm test` builds dist/ before. */
const MAIN = join(import.meta.dirname, '../../dist/main.js');
const START_MS = 60_000;

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A computer, as far as a test can give one: where and as whom its programs run, and where they keep their files. */
export interface Desk {
  /** Runs a `halfway machine` command to its end, with `input` on standard input; rejects when it fails. */
  command(argv: readonly string[], input?: string): Promise<string>;
  /** Starts `halfway machine run`; resolves when it has taken up what its last life left. */
  service(argv?: readonly string[]): Promise<DeskService>;
}

export interface DeskService extends AsyncDisposable {
  /** Of the program itself where nothing is put before it, else of what was put before. */
  readonly pid: number;
  readonly output: () => string;
  /** SIGKILL; resolves when it is gone. What it has started is left alone, as by a service manager. */
  kill(): Promise<void>;
}

export interface DeskOptions {
  readonly state: string;
  /** What the program is put behind, such as `ip netns exec NAME`: it must become the program. */
  readonly behind?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export function machineDesk({ state, behind = [], env = {} }: DeskOptions): Desk {
  const program = [...behind, process.execPath, MAIN, 'machine'];
  const line = (argv: readonly string[]) => [...program, ...argv, '--state', state];
  return {
    async command(argv, input = '') {
      const { child, output } = start(line(argv), env);
      const ended = once(child, 'close');
      child.stdin?.end(input);
      await within(`the end of halfway machine ${argv[0]}`, ended, START_MS);
      if (child.exitCode === 0) return output();
      throw new Error(
        `halfway machine ${argv.join(' ')} ended with ${child.exitCode}: ${output()}`,
      );
    },
    service: (argv = []) => startService(line(['run', ...argv]), env),
  };
}

/** A machine service by its whole command line. */
export async function startService(
  line: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<DeskService> {
  const { child, output } = start(line, env);
  const isGone = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const kill = async (): Promise<void> => {
    if (isGone()) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await within('the end of the machine service', ended, START_MS);
  };
  const isReady = (): boolean => output().includes('machine service started') || isGone();
  await until('the machine service runs', isReady, START_MS);
  if (isGone()) throw new Error(`The machine service has ended: ${output()}`);
  return { pid: child.pid ?? 0, output, kill, [Symbol.asyncDispose]: kill };
}

function start(
  [program = '', ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
): { readonly child: ChildProcess; readonly output: () => string } {
  const child = spawn(program, args, {
    stdio: 'pipe',
    cwd: '/',
    env: { PATH: process.env['PATH'], ...env },
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  }
  return { child, output: () => chunks.join('') };
}
