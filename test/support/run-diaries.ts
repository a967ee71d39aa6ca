import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { EXECUTOR_FILES } from '../../src/machine/executor/messages.ts';

const EXECUTOR = /executor-main\.[jt]s/;
const RUN_FOLDER = /^(.+)\/run-([^/]+)\.(\d+)\/log$/;

/** What an attempt of a run wrote down of itself. */
export interface DiaryEntry {
  readonly attempt: number;
  /** How often this very attempt began. */
  readonly starts: number;
  /** Exit codes, in their order; more than one: it ran twice. */
  readonly ends: readonly number[];
}

/**
 * Jobs that write down themselves that they began, before anything else, and how they ended, each in a file of its run
 * and on disk: nobody's word is taken for it.
 */
export class RunDiaries {
  readonly #folder: string;

  /** `folder`: of theirs alone. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** A job that lasts so long, leaves the number of its attempt as outputs and in its log, and ends so. */
  job(seconds: number, exitCode: number) {
    const say = `say() { printf '%s\\n' "$*" | dd of="${this.#folder}/$HALFWAY_RUN_ID" oflag=append conv=notrunc,fsync status=none; }`;
    const script = [
      say,
      'say start "$HALFWAY_ATTEMPT"',
      'echo "attempt $HALFWAY_ATTEMPT"',
      `sleep ${seconds.toFixed(2)}`,
      'echo "{\\"attempt\\": $HALFWAY_ATTEMPT}" > "$HALFWAY_OUTPUTS"',
      `say end "$HALFWAY_ATTEMPT" ${exitCode}`,
      `exit ${exitCode}`,
    ];
    return { ref: 'diary', kind: 'command', command: ['/bin/sh', '-c', script.join('\n')] };
  }

  /** By attempt, in the order in which they began. */
  of(runId: string): readonly DiaryEntry[] {
    const entries = new Map<number, { attempt: number; starts: number; ends: number[] }>();
    for (const line of this.#lines(runId)) {
      const [what, attempt = '', exitCode] = line.split(' ');
      const known = entries.get(Number(attempt));
      const entry = known ?? { attempt: Number(attempt), starts: 0, ends: [] };
      entries.set(entry.attempt, entry);
      if (what === 'start') entry.starts += 1;
      else entry.ends.push(Number(exitCode));
    }
    return [...entries.values()];
  }

  #lines(runId: string): readonly string[] {
    try {
      return readFileSync(join(this.#folder, runId), 'utf8').split('\n').filter(Boolean);
    } catch {
      // It has not begun.
      return [];
    }
  }
}

/** A run's executor that is there now. */
export interface LivingExecutor {
  readonly pid: number;
  readonly runId: string;
  readonly fence: number;
}

/** Those of all machines whose state is below this folder. */
export function executorsBelow(folder: string): readonly LivingExecutor[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      try {
        if (!EXECUTOR.test(readFileSync(`/proc/${name}/cmdline`, 'latin1'))) return [];
        const log = readlinkSync(`/proc/${name}/fd/${EXECUTOR_FILES.log}`);
        const [, path = '', runId = '', fence] = RUN_FOLDER.exec(log) ?? [];
        if (!path.startsWith(`${folder}/`)) return [];
        return [{ pid: Number(name), runId, fence: Number(fence) }];
      } catch {
        // It has ended meanwhile, or only just begun.
        return [];
      }
    });
}

/** False: it has ended by itself. */
export function killExecutor({ pid }: LivingExecutor): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
}
