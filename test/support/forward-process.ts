import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until, within } from './within.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
/** With a compiler of its own, on a machine that does other things, too. */
const START_MS = 30_000;

/** `halfway forward` as a process of its own. */
export interface ForwardProcess extends AsyncDisposable {
  readonly pid: number;
  /** Of a local end. */
  readonly port: number;
  /** What it has said on standard error. */
  readonly err: () => string;
  signal(name: NodeJS.Signals): void;
  /** Exit code, or the signal that ended it. */
  readonly end: Promise<number | string>;
}

/** Resolves when it forwards. */
export async function startForward(
  connectionString: string,
  argv: readonly string[],
): Promise<ForwardProcess> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN, 'forward', 'hyco', ...argv], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { PATH: process.env['PATH'], HALFWAY_CONNECTION_STRING: connectionString },
  });
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const end = new Promise<number | string>(resolve => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null;
  await until('forwarding', () => err.includes('forwarding ') || isOver(), START_MS);
  if (isOver()) throw new Error(`It did not start: ${err}`);
  return {
    pid: child.pid ?? 0,
    port: Number(/forwarding 127\.0\.0\.1:(\d+) to/.exec(err)?.[1] ?? 0),
    err: () => err,
    signal: name => void child.kill(name),
    end,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await within('the end', end);
    },
  };
}

/** Memory of a process: now, and at its highest. */
export function memoryOf(pid: number): { readonly nowBytes: number; readonly peakBytes: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1_024;
  return { nowBytes: bytes('VmRSS'), peakBytes: bytes('VmHWM') };
}
