import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const LOCK_FILE = 'lock';

/**
 * Makes this process the only one with the folder. The kernel keeps the lock with the open file, so that
 * it goes with the process, however that ends. Throws when another process has it.
 */
export function lockFolder(folder: string): Disposable {
  const path = join(folder, LOCK_FILE);
  const file = openSync(path, 'a+', 0o600);
  // The lock belongs to the open file and not to who asked for it: it outlives that helper.
  const { status, error } = spawnSync('flock', ['--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', file],
  });
  if (status !== 0) {
    const holder = readFileSync(path, 'latin1').trim();
    closeSync(file);
    throw new Error(
      error === undefined
        ? `Cannot use "${folder}": the machine service with the process number ${holder} has it`
        : `Cannot lock "${folder}": the program flock is needed (${error.message})`,
      { cause: error },
    );
  }
  ftruncateSync(file);
  writeSync(file, `${process.pid}\n`);
  return { [Symbol.dispose]: () => closeSync(file) };
}
