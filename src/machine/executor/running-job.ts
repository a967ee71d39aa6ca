import type { Clock } from '../../base/clock.ts';
import type { Secrets } from './frames.ts';
import type { Ending } from './ending.ts';
import type { JobLog } from './job-log.ts';
import type { Go, Outcome, ProgressReport } from './messages.ts';

/** What a job has of the executor around it. */
export interface JobSurroundings {
  readonly go: Go;
  /** The sealed inputs. Wiped by the executor when the job has ended. */
  readonly secrets: Secrets;
  /** Of the run alone, mode 0700; removed with all in it when the job has ended. */
  readonly folder: string;
  readonly log: JobLog;
  readonly ending: Ending;
  readonly clock: Clock;
  readonly onProgress: (report: ProgressReport) => void;
}

/** Runs a job of one kind to its end. Does not reject; resolves when nothing of the job is left. */
export type RunJob = (surroundings: JobSurroundings) => Promise<Outcome>;
