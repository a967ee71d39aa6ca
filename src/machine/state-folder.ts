import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { hasCode, MachineError, textOf } from './machine-error.ts';

/** The account of the systemd unit, and where its state is. */
export const SERVICE_ACCOUNT = 'halfway-machine';
export const SERVICE_STATE = '/var/lib/halfway-machine';

const FILE_BYTES_MAX = 1024 * 1024;
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const OTHERS = 0o077;
const NAME = /^[\w.~-]{1,160}$/;

/** Where the state is when nobody says: the service's own folder for root and the service, else one of the user. */
export function defaultStatePath(env: Readonly<Record<string, string | undefined>>): string {
  const ofUnit = env['STATE_DIRECTORY'] ?? '';
  if (ofUnit !== '') return ofUnit.split(':')[0] ?? ofUnit;
  const { uid, username, homedir } = userInfo();
  if (uid === 0 || username === SERVICE_ACCOUNT) return SERVICE_STATE;
  const stateHome = env['XDG_STATE_HOME'] ?? '';
  return join(stateHome === '' ? join(homedir, '.local', 'state') : stateHome, 'halfway-machine');
}

/**
 * The folder of what outlives the service: 0700, files 0600, all of the account that runs this. Anything
 * else is refused with a `MachineError`, since then others may have read or written the keys.
 */
export class StateFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Opens it, and makes it where it is missing unless `mustExist`. */
  static open(path: string, { mustExist = false } = {}): StateFolder {
    if (!existsSync(path)) {
      if (mustExist) {
        throw new MachineError(
          'NotRegistered',
          `There is no machine in "${path}": register it with "halfway machine register", or name its folder with --state`,
        );
      }
      makeFolder(path);
    }
    checkFolder(path);
    return new StateFolder(path);
  }

  /** A folder in it, made where it is missing. */
  folder(name: string): StateFolder {
    return StateFolder.open(this.pathOf(name));
  }

  /** The whole file; undefined when there is none. */
  read(name: string): Buffer | undefined {
    const path = this.pathOf(name);
    let file: number;
    try {
      file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw stateError(`Cannot read "${path}": ${textOf(error)}`, error);
    }
    try {
      const stats = fstatSync(file);
      if (!stats.isFile()) throw stateError(`"${path}" is not a file: move it away`);
      checkOwner(path, stats);
      if (stats.size > FILE_BYTES_MAX) {
        throw stateError(`"${path}" is longer than any file of the machine service: move it away`);
      }
      return readFileSync(file);
    } finally {
      closeSync(file);
    }
  }

  /** Replaces the file as a whole: after a crash it is the old one or the new one. On disk when this returns. */
  write(name: string, bytes: Uint8Array): void {
    const path = this.pathOf(name);
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      const file = openSync(temporary, 'wx', FILE_MODE);
      try {
        let at = 0;
        while (at < bytes.length) at += writeSync(file, bytes, at);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, path);
      this.#sync();
    } catch (error) {
      rmSync(temporary, { force: true });
      throw stateError(`Cannot write "${path}": ${textOf(error)}`, error);
    }
  }

  /** Safe to call when it is not there. */
  remove(name: string): void {
    rmSync(this.pathOf(name), { force: true });
    this.#sync();
  }

  /**
   * Removes the file and overwrites what was in it. Safe to call when it is not there. Best effort: disks and file
   * systems that write elsewhere keep what was there for a while.
   */
  wipe(name: string): void {
    const path = this.pathOf(name);
    let file: number;
    try {
      file = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw stateError(`Cannot overwrite "${path}": ${textOf(error)}`, error);
    }
    try {
      // First, so that nobody finds noise in place of a key when this breaks off.
      this.remove(name);
      const { size } = fstatSync(file);
      const noise = randomBytes(Math.min(size, FILE_BYTES_MAX));
      let at = 0;
      while (at < noise.length) at += writeSync(file, noise, at, noise.length - at, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  names(): readonly string[] {
    return readdirSync(this.path);
  }

  pathOf(name: string): string {
    if (!NAME.test(name) || name.startsWith('.')) throw new RangeError(`"${name}" is no file name`);
    return join(this.path, name);
  }

  #sync(): void {
    const folder = openSync(this.path, 'r');
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: FOLDER_MODE });
  } catch (error) {
    const hint =
      path === SERVICE_STATE
        ? `; run deploy/machine/install.sh first, or as "sudo -u ${SERVICE_ACCOUNT} …"`
        : '; name another folder with --state';
    throw stateError(`Cannot make the folder "${path}": ${textOf(error)}${hint}`, error);
  }
}

function checkFolder(path: string): void {
  let stats;
  try {
    stats = lstatSync(path);
  } catch (error) {
    throw stateError(`Cannot look at "${path}": ${textOf(error)}`, error);
  }
  if (!stats.isDirectory())
    throw stateError(`"${path}" is not a folder: name another with --state`);
  checkOwner(path, stats);
}

function checkOwner(path: string, { uid, mode }: { readonly uid: number; readonly mode: number }) {
  const own = userInfo();
  if (uid !== own.uid) {
    throw stateError(
      `"${path}" belongs to the account ${accountOf(uid)} and not to ${own.username}: ` +
        `run this as that account (sudo -u ${accountOf(uid)} halfway machine …), or name another folder with --state`,
    );
  }
  if ((mode & OTHERS) !== 0) {
    const shown = (mode & 0o777).toString(8).padStart(4, '0');
    throw stateError(
      `"${path}" may be read or written by other accounts (mode ${shown}): ` +
        `run "chmod -R go= ${path}"; if others were on this computer, register the machine anew with --force`,
    );
  }
}

/** Its name where the system's list of accounts has one. */
function accountOf(uid: number): string {
  try {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find(entry => entry.split(':')[2] === String(uid));
    return line?.split(':')[0] ?? `#${uid}`;
  } catch {
    // Not every system has that list; then the number must do.
    return `#${uid}`;
  }
}

function stateError(message: string, cause?: unknown): MachineError {
  return new MachineError('State', message, { cause });
}
