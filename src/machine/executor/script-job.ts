import * as v from 'valibot';
import { isJobErrorCode, JOB_ERRORS, type JobErrorCode } from '../../jobs/error-codes.ts';
import { pause } from '../retry.ts';
import { failed, progressReportSchema, type Outcome } from './messages.ts';
import type { RunJob } from './running-job.ts';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** What a simulated job does: its steps one after another, then how it ends. */
const scriptSchema = v.object({
  steps: v.optional(
    v.array(
      v.object({
        /** Written to the log, so many times. */
        log: v.optional(v.string()),
        repeat: v.optional(count),
        progress: v.optional(progressReportSchema),
        waitMs: v.optional(count),
      }),
    ),
  ),
  outputs: v.optional(v.record(v.string(), v.unknown())),
  exitCode: v.optional(v.pipe(v.number(), v.safeInteger())),
  /** Fails with it. */
  error: v.optional(
    v.custom<JobErrorCode>(value => typeof value === 'string' && isJobErrorCode(value)),
  ),
  /** Goes on when it is asked to stop, until it is killed. */
  ignoresStop: v.optional(v.boolean()),
  /** The executor breaks down at the end. */
  crash: v.optional(v.boolean()),
});

/** Plays a simulated job. A safe stop ends it before its next step, and it has succeeded. */
export const runScript: RunJob = async ({ go, ending, log, secrets, clock, onProgress }) => {
  const parsed = v.safeParse(scriptSchema, go.job.script ?? {});
  if (!parsed.success) {
    const [issue] = parsed.issues;
    return failed('RequestMalformed', `The script of the job: ${issue.message}`);
  }
  const { steps = [], outputs, exitCode, error, ignoresStop, crash } = parsed.output;
  const stream = log.stream(Object.values(secrets));
  const end = new AbortController();
  ending.onAsked(mode => {
    if (mode === 'kill' || (mode === 'stop' && ignoresStop !== true)) end.abort();
  });
  for (const step of steps) {
    if (end.signal.aborted || ending.mode === 'safe-stop') break;
    if (step.log !== undefined) {
      const line = Buffer.from(`${step.log}\n`);
      for (let time = 0; time < (step.repeat ?? 1); time += 1) stream.write(line);
    }
    if (step.progress !== undefined) onProgress(step.progress);
    if (step.waitMs !== undefined) await pause(clock, step.waitMs, end.signal);
  }
  stream.end();
  log.end();
  if (crash === true) process.kill(process.pid, 'SIGKILL');
  const rest = {
    ...(outputs === undefined ? {} : { outputs }),
    ...(exitCode === undefined ? {} : { exitCode }),
  };
  const own: Outcome =
    error === undefined
      ? { status: (exitCode ?? 0) === 0 ? 'Succeeded' : 'Failed', ...rest }
      : { ...failed(error, JOB_ERRORS[error].text), ...rest };
  return ending.outcome(own);
};
