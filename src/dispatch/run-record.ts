import * as v from 'valibot';
import { isJobErrorCode, type JobErrorCode } from '../jobs/error-codes.ts';
import { cancelModeSchema, envelopeSchema, jobSchema, modeSchema } from '../jobs/messages.ts';
import {
  countSchema,
  idSchema,
  labelsSchema,
  momentSchema,
  principalSchema,
  targetSchema,
} from './records.ts';
import type { Kind } from './repository.ts';
import type { RunLife } from './run-state.ts';

const codeSchema = v.custom<JobErrorCode>(
  value => typeof value === 'string' && isJobErrorCode(value),
);

export const runStateSchema = v.picklist([
  'Queued',
  'Assigned',
  'Starting',
  'Running',
  'SafeStopping',
  'Cancelling',
  'Succeeded',
  'Failed',
  'Cancelled',
  'TimedOut',
  'Skipped',
  'Lost',
]);

/** What a machine last said to a run that it did not take. */
const answerSchema = v.object({
  code: codeSchema,
  message: v.optional(v.string()),
  atMs: momentSchema,
  /** How often in a row. */
  times: countSchema,
  /** It is not asked again before, unless it has changed meanwhile. */
  notBeforeMs: momentSchema,
});
export type MachineAnswer = v.InferOutput<typeof answerSchema>;

const lifeSchema = {
  state: runStateSchema,
  attempt: countSchema,
  fence: countSchema,
  starts: countSchema,
  machineId: v.optional(idSchema),
  instance: v.optional(v.string()),
  leaseUntilMs: v.optional(momentSchema),
  queuedAtMs: momentSchema,
  assignedAtMs: v.optional(momentSchema),
  startedAtMs: v.optional(momentSchema),
  endedAtMs: v.optional(momentSchema),
  cancel: v.optional(v.object({ mode: cancelModeSchema, by: v.string() })),
  isTimedOut: v.optional(v.boolean()),
  fault: v.optional(
    v.object({
      code: codeSchema,
      message: v.optional(v.string()),
      subCode: v.optional(codeSchema),
    }),
  ),
  onLost: v.picklist(['fail', 'requeue']),
  maxAttempts: countSchema,
} as const;

export const runSchema = v.object({
  ...lifeSchema,
  id: idSchema,
  owner: principalSchema,
  connectionId: idSchema,
  target: targetSchema,
  mode: modeSchema,
  priority: v.picklist(['high', 'normal']),
  /** Where it stands in its queue after it was moved to the top. */
  topScore: v.optional(v.number()),
  jobRef: v.string(),
  jobKind: v.string(),
  minAgentVersion: v.optional(v.string()),
  /** What a machine must have. */
  labels: labelsSchema,
  queueUntilMs: momentSchema,
  runSeconds: countSchema,
  whenOffline: v.picklist(['queue', 'fail']),
  /** Of its group, this member and no other: a test of the connection there. */
  onlyMachineId: v.optional(idSchema),
  trigger: v.string(),
  callbackUrl: v.optional(v.string()),
  correlationId: v.optional(v.string()),
  /** W3C Trace Context of the request, handed on to the machine. */
  traceparent: v.optional(v.string()),
  parentRunId: v.optional(idSchema),
  inputBytes: countSchema,
  answers: v.record(idSchema, answerSchema),
  /** When a machine first said that the session of a user is in the way. */
  blockedAtMs: v.optional(momentSchema),
  // From here on: what its end brought.
  accountName: v.optional(v.string()),
  agentVersion: v.optional(v.string()),
  exitCode: v.optional(v.number()),
  innerError: v.optional(v.string()),
  cpuPercent: v.optional(v.number()),
  memoryMb: v.optional(v.number()),
  output: v.optional(v.object({ key: v.string(), parts: countSchema, bytes: countSchema })),
});
export type Run = v.InferOutput<typeof runSchema>;

/** What was asked for, apart from the run since it may be large and never changes. */
export const runInputSchema = v.object({
  job: jobSchema,
  inputs: v.record(v.string(), v.unknown()),
  sealedInputs: v.record(v.string(), envelopeSchema),
});
export type RunInput = v.InferOutput<typeof runInputSchema>;

/** A part of a run's outputs, which may be larger than a record. */
export const outputPartSchema = v.object({ text: v.string() });

/** How much of a run's log has come. */
export const runLogSchema = v.object({
  attempt: countSchema,
  bytes: countSchema,
  isTruncated: v.boolean(),
});
export type RunLog = v.InferOutput<typeof runLogSchema>;

export const RUN: Kind<Run> = { name: 'run', schema: runSchema };
export const RUN_INPUT: Kind<RunInput> = { name: 'run-input', schema: runInputSchema };
export const RUN_LOG: Kind<RunLog> = { name: 'run-log', schema: runLogSchema };
export const OUTPUT_PART: Kind<v.InferOutput<typeof outputPartSchema>> = {
  name: 'run-output',
  schema: outputPartSchema,
};

/** A run with its life advanced. The record has all that a life has, so nothing is lost on the way. */
export function withLife(run: Run, life: RunLife): Run {
  return {
    ...run,
    state: life.state,
    attempt: life.attempt,
    fence: life.fence,
    starts: life.starts,
    machineId: life.machineId,
    instance: life.instance,
    leaseUntilMs: life.leaseUntilMs,
    queuedAtMs: life.queuedAtMs,
    assignedAtMs: life.assignedAtMs,
    startedAtMs: life.startedAtMs,
    endedAtMs: life.endedAtMs,
    cancel: life.cancel === undefined ? undefined : { ...life.cancel },
    isTimedOut: life.isTimedOut,
    fault: life.fault === undefined ? undefined : { ...life.fault },
    onLost: life.onLost,
    maxAttempts: life.maxAttempts,
  };
}
