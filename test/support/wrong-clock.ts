import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SOURCE = join(import.meta.dirname, 'wrong-clock.c');
const OFFSET_BYTES = 8;

/** The wall clock of a process that is wrong by some seconds, and can be put to be wrong by others. */
export interface WrongClock extends Disposable {
  /** The environment to start the process with. */
  readonly env: Readonly<Record<string, string>>;
  /** Steps the clock, as an operator or a time server does. */
  set(offsetSec: number): void;
}

/** Ahead of the true time by `offsetSec`; behind when that is negative. */
export function wrongClock(offsetSec: number): WrongClock {
  const folder = mkdtempSync(join(tmpdir(), 'halfway-clock-'));
  const [library, file] = [join(folder, 'wrong-clock.so'), join(folder, 'offset')];
  execFileSync('g++', ['-x', 'c', '-shared', '-fPIC', '-O1', '-Wall', '-o', library, SOURCE]);
  const set = (sec: number): void => {
    const offset = Buffer.alloc(OFFSET_BYTES);
    offset.writeBigInt64LE(BigInt(sec));
    // In place: the process looks at these very bytes.
    writeFileSync(file, offset, { flag: 'r+' });
  };
  writeFileSync(file, Buffer.alloc(OFFSET_BYTES));
  set(offsetSec);
  return {
    env: { LD_PRELOAD: library, WRONG_CLOCK_FILE: file },
    set,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
