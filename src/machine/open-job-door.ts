import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { openDurableFile } from './durable-file.ts';
import { lockFolder } from './folder-lock.ts';
import { Journal } from './journal.ts';
import type { CredentialOpener, JobDoor, RunReporter } from './ports.ts';
import { retryDelayMs } from './retry.ts';
import { RunSupervisor } from './run-supervisor.ts';
import type { SessionHost } from './session-hosts/session-host.ts';
import { defaultSocketFolder, makeSocketFolder } from './socket-folder.ts';

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
  /** The folder was made on another computer, where what it has in hand may go on: see `RunSupervisor.recover`. */
  readonly isFromElsewhere?: boolean;
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
  const socketFolder = await makeSocketFolder(options.socketFolder ?? defaultSocketFolder(), {
    isForOthers: options.host.kind === 'os-account',
  });
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
      isFromElsewhere: options.isFromElsewhere ?? false,
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
