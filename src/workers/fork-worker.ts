import { fork } from 'node:child_process';
import { processLine, type ProcessLine } from './line.ts';

/** A worker's process. */
export interface WorkerProcess {
  readonly pid: number | undefined;
  readonly line: ProcessLine;
  /** Once; says how it ended, for people. */
  onEnd(observer: (how: string) => void): void;
  kill(): void;
}

/** The command by which this program becomes a worker. */
export const WORKER_COMMAND = 'worker';

/** Starts this very program once more, as a worker that waits for its specification. */
export function forkWorker(): WorkerProcess {
  const [, script = ''] = process.argv;
  const child = fork(script, [WORKER_COMMAND], {
    serialization: 'advanced',
    env: withoutOurs(process.env),
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  return {
    pid: child.pid,
    line: processLine(child),
    onEnd: observer => {
      let isTold = false;
      const tell = (how: string): void => {
        if (!isTold) observer(how);
        isTold = true;
      };
      child.once('error', error => tell(error.message));
      child.once('exit', (code, signal) => tell(signal ?? `exit code ${code}`));
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

/** Its options come over the line, and secrets among ours are none of its environment's business. */
function withoutOurs(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('HALFWAY_')));
}
