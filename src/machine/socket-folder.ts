import { chmod, lstat, mkdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

/** What the system takes as the path of a socket, less the name of one. */
const SOCKET_FOLDER_CHARS_MAX = 80;
const MODE = 0o711;
const OTHERS_WRITE = 0o022;
const OTHERS_PASS = 0o001;

/** Where the sockets of runs are when nobody says: it outlasts a process of the service. */
export function defaultSocketFolder(): string {
  return join(tmpdir(), `halfway-machine-${process.getuid?.() ?? 0}`);
}

/**
 * Makes the folder where it is missing: others may pass through it, to a socket whose name they know, and not
 * look into it or change it. Rejects when it is somebody else's, or cannot be used. Returns its whole path.
 *
 * @param isForOthers executors of other accounts must come as far as a socket in it
 */
export async function makeSocketFolder(
  folder: string,
  { isForOthers }: { readonly isForOthers: boolean },
): Promise<string> {
  const path = resolve(folder);
  if (path.length > SOCKET_FOLDER_CHARS_MAX) {
    throw cannotUse(path, `it has more than ${SOCKET_FOLDER_CHARS_MAX} characters`);
  }
  const made = await mkdir(path, { recursive: true, mode: MODE });
  // Whatever is masked off for other files.
  if (made !== undefined) await chmod(path, MODE);
  const stats = await lstat(path);
  const isOwn = stats.isDirectory() && stats.uid === process.getuid?.();
  if (!isOwn || (stats.mode & OTHERS_WRITE) !== 0) {
    throw cannotUse(path, 'others may write to it');
  }
  if (!isForOthers) return path;
  for (let part = path; ; part = dirname(part)) {
    const { mode } = await stat(part);
    if ((mode & OTHERS_PASS) === 0) {
      throw cannotUse(path, `other accounts may not pass through "${part}"`);
    }
    if (part === dirname(part)) return path;
  }
}

function cannotUse(path: string, why: string): Error {
  return new Error(`Cannot use "${path}" for sockets: ${why}`);
}
