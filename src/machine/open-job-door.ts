import { lstat, mkdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { openDurableFile } from './durable-file.ts';
import { lockFolder } from './folder-lock.ts';
import { Journal } from './journal.ts';
import type { CredentialOpener, JobDoor, RunReporter } from './ports.ts';
import { retryDelayMs } from './retry.ts';
import { RunSupervisor } from './run-supervisor.ts';
import type { SessionHost } from './session-hosts/session-host.ts';

/** What the system takes as the path of a socket, less the name of one. */
const SOCKET_FOLDER_CHARS_MAX = 80;
const OTHERS_WRITE = 0o022;
const OTHERS_PASS = 0o001;

export interface JobDoorOptions {
  /** For the journal and the files of runs, below the state folder; made where it is missing. */
  readonly folder: string;
  /**
   * For the sockets of runs: must outlast the service's process and be reachable for the accounts of jobs
   * (the state folder is not). By default a folder of this account in the system's temporary one.
   */
  readonly socketFolder?: string | undefined;
  readonly reporter: RunReporter;
  readonly opener: CredentialOpener;
  readonly host: SessionHost;
  readonly clock: Clock;
  readonly log: Logger;
  /** As in the hello: drawn anew each time the service starts. */
  readonly instance: string;
  readonly agentVersion: string;
  /** Sends a hello soon: what the control plane makes of the runs is waited for. */
  readonly askStandings: () => void;
  /** Between two tries of a report, by how many failed in a row; another than the usual for tests. */
  readonly retryDelayMs?: (failures: number) => number;
  /** For tests of full disks. */
  readonly openFile?: typeof openDurableFile;
}

/**
 * Opens the machine's door for jobs: then `recover()`, and offers may come. Rejects when another process has
 * the folder, or it cannot be used.
 */
export async function openJobDoor(options: JobDoorOptions): Promise<JobDoor> {
  const { folder, clock, log } = options;
  const runs = join(folder, 'runs');
  await mkdir(runs, { recursive: true, mode: 0o700 });
  const socketFolder = await makeSocketFolder(
    resolve(options.socketFolder ?? join(tmpdir(), `halfway-machine-${process.getuid?.() ?? 0}`)),
  );
  if (options.host.kind === 'os-account') await checkReachable(socketFolder);
  const lock = lockFolder(folder);
  try {
    const journal = await Journal.open(join(folder, 'journal.jsonl'), {
      clock,
      log,
      ...(options.openFile === undefined ? {} : { openFile: options.openFile }),
    });
    const { reporter, opener, host, instance, agentVersion, askStandings } = options;
    const tools = {
      journal,
      reporter,
      opener,
      host,
      clock,
      log,
      instance,
      agentVersion,
      socketFolder,
      askStandings,
      retryDelayMs: options.retryDelayMs ?? retryDelayMs,
    };
    return new RunSupervisor(tools, runs, async () => {
      await journal.close();
      lock[Symbol.dispose]();
    });
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** Others may pass through it, to a socket whose name they know, and not look into it or change it. */
async function makeSocketFolder(path: string): Promise<string> {
  if (path.length > SOCKET_FOLDER_CHARS_MAX) {
    throw new Error(
      `Cannot use "${path}" for sockets: it has more than ${SOCKET_FOLDER_CHARS_MAX} characters`,
    );
  }
  await mkdir(path, { recursive: true, mode: 0o711 });
  const stats = await lstat(path);
  const isOwn = stats.isDirectory() && stats.uid === process.getuid?.();
  if (!isOwn || (stats.mode & OTHERS_WRITE) !== 0) {
    throw new Error(`Cannot use "${path}" for sockets: others may write to it`);
  }
  return path;
}

/** Executors of other accounts must come as far as the socket. */
async function checkReachable(socketFolder: string): Promise<void> {
  for (let path = socketFolder; ; path = dirname(path)) {
    const { mode } = await stat(path);
    if ((mode & OTHERS_PASS) === 0) {
      throw new Error(
        `Cannot use "${socketFolder}" for sockets: other accounts may not pass through "${path}"`,
      );
    }
    if (path === dirname(path)) return;
  }
}
