import { spawn } from 'node:child_process';
import { Duplex, type Writable } from 'node:stream';
import { EXECUTOR_FILES } from '../executor/messages.ts';
import { SignInError, type LaunchRequest } from './session-host.ts';

/** Of what sign-in programs say, the end is kept. */
const SAID_CHARS_MAX = 8_192;

export interface SpawnedExecutor {
  readonly pid: number;
  readonly ended: Promise<{
    readonly code: number | undefined;
    readonly signal: string | undefined;
    /** What it wrote, on both streams. */
    readonly said: string;
  }>;
}

/**
 * Starts an executor, or what signs in in front of it, in a session of its own, so that it outlives this
 * process; with `EXECUTOR_FILES` and with `secret`, if given, as all of its standard input. Rejects with
 * `SignInError` when the program cannot be started.
 */
export async function spawnExecutor(
  [program, ...args]: readonly [string, ...string[]],
  request: Pick<LaunchRequest, 'files' | 'handover'>,
  options: {
    readonly env: NodeJS.ProcessEnv;
    readonly cwd: string;
    readonly uid?: number;
    readonly gid?: number;
    /** Copied here and wiped when it was handed over. */
    readonly secret?: Buffer;
  },
): Promise<SpawnedExecutor> {
  const { secret, ...rest } = options;
  const { log, outcome } = request.files;
  const child = spawn(program, args, {
    ...rest,
    detached: true,
    stdio: [secret === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', 'pipe', log, outcome],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString('utf8')}`.slice(-SAID_CHARS_MAX);
    });
  }
  const ended = new Promise<Awaited<SpawnedExecutor['ended']>>(resolve => {
    const end = (code: number | null, signal: string | null): void =>
      resolve({ code: code ?? undefined, signal: signal ?? undefined, said });
    // Its last words come before `close`; whom it started may hold its streams for longer.
    child.once('exit', (code, signal) => setImmediate(() => end(code, signal)));
    child.once('close', end);
  });
  const spawned = new Promise<number>((resolve, reject) => {
    child.once('error', error => {
      const message = `The executor cannot be started: ${error.message}`;
      reject(new SignInError({ code: 'UIFlowAgentNotAvailable', message }));
    });
    child.once('spawn', () => resolve(child.pid ?? 0));
  });
  const handover = child.stdio[EXECUTOR_FILES.handover];
  if (handover instanceof Duplex) handTo(handover, Buffer.from(JSON.stringify(request.handover)));
  if (secret !== undefined) handTo(child.stdin, Buffer.from(secret));
  const pid = await spawned;
  child.unref();
  return { pid, ended };
}

function handTo(stream: Writable | null, bytes: Buffer): void {
  if (stream === null) return;
  // It ended before it read; `ended` tells.
  stream.on('error', () => undefined);
  stream.end(bytes, () => bytes.fill(0));
}
