import { constants } from 'node:fs';
import { open, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';

const FILE_MODE = 0o600;

/** A file that grows by lines, each on disk before its `append` resolves. */
export interface DurableFile {
  /**
   * Adds whole lines. When it rejects nothing of them counts, and the file is as it was before (what
   * was half written is cut off before the next append). Calls must not overlap.
   */
  append(text: string): Promise<void>;
  /** Replaces all that is in it, in one step. Rejecting, it has left the old contents. */
  replace(text: string): Promise<void>;
  readonly sizeBytes: number;
  close(): Promise<void>;
}

/**
 * Opens the file, made where it is missing; `text` is what it holds. A last line without its end is one
 * whose writing was broken off: it was never promised, and is cut off.
 */
export async function openDurableFile(
  path: string,
): Promise<{ readonly file: DurableFile; readonly text: string }> {
  const bytes = await readIfThere(path);
  const length = bytes.lastIndexOf('\n') + 1;
  const file = new AppendedFile(path, await openForAppending(path), length, bytes.length > length);
  await syncFolder(path);
  return { file, text: bytes.toString('utf8', 0, length) };
}

/** Writes a whole file: after a crash it is the old one or the new one. On disk when this resolves. */
export async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const aside = `${path}.new`;
  try {
    const handle = await open(aside, 'w', FILE_MODE);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
  await syncFolder(path);
}

class AppendedFile implements DurableFile {
  readonly #path: string;
  #handle: FileHandle;
  #length: number;
  /** Behind `#length` there is something that was not promised. */
  #isDirty: boolean;

  constructor(path: string, handle: FileHandle, length: number, isDirty: boolean) {
    this.#path = path;
    this.#handle = handle;
    this.#length = length;
    this.#isDirty = isDirty;
  }

  get sizeBytes(): number {
    return this.#length;
  }

  async append(text: string): Promise<void> {
    if (this.#isDirty) await this.#handle.truncate(this.#length);
    this.#isDirty = true;
    const bytes = Buffer.from(text);
    await this.#handle.appendFile(bytes);
    await this.#handle.datasync();
    this.#length += bytes.length;
    this.#isDirty = false;
  }

  async replace(text: string): Promise<void> {
    const aside = `${this.#path}.new`;
    const { O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = constants;
    const handle = await open(aside, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, FILE_MODE);
    try {
      await handle.appendFile(text);
      await handle.sync();
      await rename(aside, this.#path);
    } catch (error) {
      await handle.close();
      await rm(aside, { force: true });
      throw error;
    }
    // From here on the new one is the file, whatever else fails.
    const old = this.#handle;
    this.#handle = handle;
    this.#length = Buffer.byteLength(text);
    this.#isDirty = false;
    await old.close();
    await syncFolder(this.#path);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function openForAppending(path: string): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_APPEND } = constants;
  return open(path, O_RDWR | O_CREAT | O_APPEND, FILE_MODE);
}

async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      return Buffer.alloc(0);
    throw error;
  }
}

/** What is new, renamed or gone in the folder of a path is so on disk when this resolves. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
