import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The repository: every program of a run starts there. */
export const ROOT = join(import.meta.dirname, '../..');

/** Unit of the times in /proc/PID/stat: 100 a second on every Linux this runs on. */
const CPU_TICK_MS = 10;

/** Which core a process gets: the measured server one for itself, everything else the other. */
export type Core = 'server' | 'load';

const CORE_NUMBERS: Record<Core, string> = { server: '0', load: '1' };
const hasTaskset = spawnSync('taskset', ['-V']).status === 0;
const isPinned = hasTaskset && availableParallelism() >= 2;

/** What a reader must know about how the processes of this run shared the machine. */
export const PINNING = isPinned
  ? 'server on core 0, load on core 1'
  : `not pinned (${hasTaskset ? 'one core only' : 'taskset is missing'}): expect noise`;

/** Moves the calling process off the core of the measured server. */
export function pinSelf(): void {
  if (isPinned) spawnSync('taskset', ['-a', '-cp', CORE_NUMBERS.load, String(process.pid)]);
}

export interface RunningProcess extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly child: ChildProcess;
}

export function pinnedCommand(command: readonly string[], core: Core): [string, readonly string[]] {
  const [program = '', ...args] = isPinned
    ? ['taskset', '-c', CORE_NUMBERS[core], ...command]
    : command;
  return [program, args];
}

/**
 * Starts a program and waits for the line of its standard output (or error) in which `ready` finds something.
 * Rejects with what the program said on standard error when it ends before that.
 */
export async function startProcess<Found>(options: {
  readonly name: string;
  readonly command: readonly string[];
  readonly core: Core;
  readonly readyOn?: 'stdout' | 'stderr';
  readonly ready: (line: string) => Found | undefined;
}): Promise<RunningProcess & { readonly found: Found }> {
  const { name, command, core, ready, readyOn = 'stdout' } = options;
  const [program, args] = pinnedCommand(command, core);
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (part: Buffer) => {
    if (complaint.length < 4_000) complaint += part.toString();
  });
  const found = await new Promise<Found>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', code =>
      reject(new Error(`Cannot start ${name}: it ended with ${String(code)}. ${complaint.trim()}`)),
    );
    createInterface(child[readyOn]).on('line', line => {
      const value = ready(line);
      if (value !== undefined) resolve(value);
    });
  });
  return { ...running(name, child), found };
}

/** Starts a program that says nothing when it is ready; the caller finds out. */
export function startSilentProcess(options: {
  readonly name: string;
  readonly command: readonly string[];
  readonly core: Core;
}): RunningProcess {
  const [program, args] = pinnedCommand(options.command, options.core);
  const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  return running(options.name, child);
}

/** TypeScript programs of loadtest/ run by tsx, which costs nothing once they are loaded. */
export function typescriptProgram(file: string, args: readonly string[] = []): readonly string[] {
  return [process.execPath, '--import', 'tsx', join(ROOT, 'loadtest', file), ...args];
}

export function running(name: string, child: ChildProcess): RunningProcess {
  const { pid } = child;
  if (pid === undefined) throw new Error(`Cannot start ${name}: is it installed?`);
  // taskset replaces itself by the program, so the process id is the program's.
  return {
    name,
    pid,
    child,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise<void>(resolve => {
        child.once('exit', () => resolve());
      });
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** Time on a processor of all threads of a process since its start, user and system, in steps of 10 ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field, the name, may hold spaces; user and system time are the 14th and 15th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * CPU_TICK_MS;
}

/** How long the main thread of a process could have run and got no processor, in milliseconds; NaN: not to be had. */
export function starvedMs(pid: number): number {
  try {
    const [, waitedNs = ''] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ');
    return Number(waitedNs) / 1e6;
  } catch {
    // Kernels without CONFIG_SCHED_INFO have no such file.
    return Number.NaN;
  }
}

/** Memory of a process now (`VmRSS`) and at its highest (`VmHWM`). */
export function memoryBytes(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { now: field('VmRSS'), peak: field('VmHWM') };
}

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;
}

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => {
    setTimeout(resolve, ms);
  });
}
