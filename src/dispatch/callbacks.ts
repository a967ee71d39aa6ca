import * as v from 'valibot';
import { formatMoment } from './moments.ts';
import { countSchema, idSchema, momentSchema, principalSchema } from './records.ts';
import type { Draft, Kind } from './repository.ts';
import type { Run } from './run-record.ts';
import { FINAL_STATES, STATUS_NUMBERS } from './run-state.ts';

// What is to be told to the address that a run's caller gave. Written in the very step of what it tells, so
// that an end without its callback cannot be, whatever breaks; sent by callback-delivery.ts.

const callbackSchema = v.object({
  /** The run's and more, hence longer than ids are. */
  id: v.string(),
  runId: idSchema,
  /** Whose key signs it. */
  owner: principalSchema,
  url: v.string(),
  /** JSON; the same at each try. */
  body: v.string(),
  createdAtMs: momentSchema,
  /** How often it was tried. */
  tries: countSchema,
  nextAtMs: momentSchema,
});
export type Callback = v.InferOutput<typeof callbackSchema>;
export const CALLBACK: Kind<Callback> = { name: 'callback', schema: callbackSchema };

/** Callbacks that wait, by when they are tried next. */
export const OUTBOX_INDEX = 'outbox';

export type CallbackType = 'run.ended' | 'runBlockedBySession';

/** A run that was lost and whose result came after all has ended twice, and says so twice. */
export function queueEnd(draft: Draft, environment: string, before: Run, after: Run): void {
  if (before.state === after.state || !FINAL_STATES.has(after.state)) return;
  queueCallback(draft, environment, after, 'run.ended', after.endedAtMs ?? 0);
}

/** Nothing is queued for a run without an address. */
export function queueCallback(
  draft: Draft,
  environment: string,
  run: Run,
  type: CallbackType,
  nowMs: number,
): void {
  if (run.callbackUrl === undefined) return;
  const id = `${run.id}.${type === 'run.ended' ? run.state : type}`;
  const value: Callback = {
    id,
    runId: run.id,
    owner: run.owner,
    url: run.callbackUrl,
    body: bodyOf(environment, run, type, nowMs),
    createdAtMs: nowMs,
    tries: 0,
    nextAtMs: nowMs,
  };
  draft.create(CALLBACK, id, value).add(OUTBOX_INDEX, id, nowMs);
}

/** Neither inputs nor outputs: whoever may see them fetches them. */
function bodyOf(environment: string, run: Run, type: CallbackType, nowMs: number): string {
  const { fault, startedAtMs, endedAtMs } = run;
  return JSON.stringify({
    type,
    timestamp: formatMoment(nowMs),
    data: {
      environment,
      runId: run.id,
      state: run.state,
      status: STATUS_NUMBERS[run.state],
      code: fault?.code,
      subCode: fault?.subCode,
      message: fault?.message,
      exitCode: run.exitCode,
      jobRef: run.jobRef,
      connectionId: run.connectionId,
      machineId: run.machineId,
      correlationId: run.correlationId,
      parentRunId: run.parentRunId,
      queuedAt: formatMoment(run.queuedAtMs),
      startedAt: startedAtMs === undefined ? undefined : formatMoment(startedAtMs),
      endedAt: endedAtMs === undefined ? undefined : formatMoment(endedAtMs),
    },
  });
}
