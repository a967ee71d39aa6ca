import * as v from 'valibot';
import { isJobErrorCode, type JobErrorCode } from '../../jobs/error-codes.ts';
import { ERROR_MESSAGE_CHARS_MAX, INNER_ERROR_CHARS_MAX } from '../../jobs/limits.ts';
import { cancelModeSchema, jobSchema } from '../../jobs/messages.ts';

// What service and executor say to each other over the run's socket. The executor is believed in what
// concerns its own run, and in nothing else: it runs under the job's account.

/** Open files that an executor is started with, besides the three usual ones. */
export const EXECUTOR_FILES = {
  /** A `Handover`, then its end. */
  handover: 3,
  /** The run's log, for appending. */
  log: 4,
  /** How the run ended: one line of JSON. */
  outcome: 5,
} as const;

export const PING_INTERVAL_MS = 10_000;
export const PINGS_MISSED_MAX = 3;
/** Between two tries of an executor to reach a service that has ended. */
export const RECONNECT_MS = 500;
/** An executor that was never told to go gives up so long after it lost its service. */
export const IDLE_EXECUTOR_MS = 60_000;

/**
 * In front of the input's name. No other secrets come here: what an executor knows the job can read in its memory, so
 * it never has the password of its account.
 */
export const INPUT_SECRET = 'input:';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const json = v.record(v.string(), v.unknown());

/** What the executor needs to find its service again; no other process of the account is told. */
export const handoverSchema = v.object({ socketPath: v.string(), token: v.string() });
export type Handover = v.InferOutput<typeof handoverSchema>;

const goSchema = v.object({
  type: v.literal('go'),
  runId: v.string(),
  attempt: count,
  fence: count,
  job: jobSchema,
  inputs: json,
  limits: v.object({ runSeconds: count, logBytes: count, outputBytes: count }),
  traceparent: v.optional(v.string()),
});
export type Go = v.InferOutput<typeof goSchema>;

export const toExecutorSchema = v.variant('type', [
  /** After the frame with the secrets. Once; again it is passed over. */
  goSchema,
  v.object({ type: v.literal('end'), mode: cancelModeSchema, graceSeconds: count }),
  v.object({ type: v.literal('ping') }),
]);
export type ToExecutor = v.InferOutput<typeof toExecutorSchema>;

export const progressReportSchema = v.object({
  step: v.pipe(v.string(), v.maxLength(256)),
  done: v.optional(count),
  total: v.optional(count),
  text: v.optional(v.pipe(v.string(), v.maxLength(1_000))),
});
export type ProgressReport = v.InferOutput<typeof progressReportSchema>;

export const fromExecutorSchema = v.variant('type', [
  v.object({
    type: v.literal('hello'),
    token: v.string(),
    pid: count,
    startTicks: count,
    /** The effective one. */
    uid: count,
    accountName: v.string(),
    /** It was told to go. */
    hasBegun: v.boolean(),
  }),
  v.object({ type: v.literal('pong') }),
  /** The log has grown. */
  v.object({ type: v.literal('log') }),
  v.object({ type: v.literal('progress'), report: progressReportSchema }),
  /** The outcome is in its file. */
  v.object({ type: v.literal('finished') }),
]);
export type FromExecutor = v.InferOutput<typeof fromExecutorSchema>;

const code = v.custom<JobErrorCode>(value => typeof value === 'string' && isJobErrorCode(value));

/** How an attempt ended, as the executor or, in its stead, the service writes it down. */
export const outcomeSchema = v.object({
  status: v.picklist(['Succeeded', 'Failed', 'Cancelled', 'TimedOut', 'Lost']),
  outputs: v.optional(json),
  error: v.optional(
    v.object({
      code,
      message: v.pipe(v.string(), v.maxLength(ERROR_MESSAGE_CHARS_MAX)),
      inner: v.optional(v.pipe(v.string(), v.maxLength(INNER_ERROR_CHARS_MAX))),
    }),
  ),
  exitCode: v.optional(v.pipe(v.number(), v.safeInteger())),
  stats: v.optional(v.object({ cpuPercent: v.number(), memoryMb: v.number() })),
});
export type Outcome = v.InferOutput<typeof outcomeSchema>;

/** An outcome with the code's own text, or a better one. */
export function failed(errorCode: JobErrorCode, message: string, exitCode?: number): Outcome {
  const error = { code: errorCode, message: message.slice(0, ERROR_MESSAGE_CHARS_MAX) };
  return { status: 'Failed', error, ...(exitCode === undefined ? {} : { exitCode }) };
}

/** The variable that marks the processes of one attempt, as `NAME=value`. */
export function markOf({
  runId,
  fence,
}: {
  readonly runId: string;
  readonly fence: number;
}): string {
  return `HALFWAY_EXECUTION=${runId}.${fence}`;
}
