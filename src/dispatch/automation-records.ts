import * as v from 'valibot';
import { countSchema, idSchema, momentSchema, principalSchema, shared } from './records.ts';
import type { Kind } from './repository.ts';

// What starts runs by itself: schedules by the time, triggers by a request from outside.

/** What both have. */
const automation = {
  ...shared,
  id: idSchema,
  name: v.string(),
  isEnabled: v.boolean(),
  /** Whoever said last what is run: the rights of this one count each time. */
  runOwner: principalSchema,
  /** The body of a request for a run. */
  run: v.record(v.string(), v.unknown()),
};

const outcomeSchema = v.object({
  atMs: momentSchema,
  /** When it should have been. */
  dueAtMs: momentSchema,
  /** `missed`: nobody was there to start it in time. */
  outcome: v.picklist(['started', 'failed', 'missed']),
  runId: v.optional(v.string()),
  code: v.optional(v.string()),
  message: v.optional(v.string()),
});
export type ScheduleOutcome = v.InferOutput<typeof outcomeSchema>;
export const scheduleOutcomeSchema = outcomeSchema;

export const scheduleSchema = v.object({
  ...automation,
  /** Minute, hour, day of the month, month, day of the week; or else `everySeconds`. */
  cron: v.optional(v.string()),
  timeZone: v.string(),
  everySeconds: v.optional(countSchema),
  /** What `everySeconds` counts from. */
  anchorAtMs: momentSchema,
  /** What is done about times at which nobody was there: nothing, or one run for all of them. */
  onMissed: v.picklist(['skip', 'once']),
  /** Undefined: it is not enabled. */
  nextAtMs: v.optional(momentSchema),
  last: v.optional(outcomeSchema),
});
export type Schedule = v.InferOutput<typeof scheduleSchema>;

export const triggerSchema = v.object({
  ...automation,
  /** 32 bytes, base64: signatures are made with it, so that it is kept as it is. Never shown again. */
  secret: v.string(),
  /** The one before, for a while. */
  formerSecret: v.optional(v.object({ secret: v.string(), untilMs: momentSchema })),
  runsPerMinuteMax: countSchema,
});
export type Trigger = v.InferOutput<typeof triggerSchema>;

export const SCHEDULE: Kind<Schedule> = { name: 'schedule', schema: scheduleSchema };
export const TRIGGER: Kind<Trigger> = { name: 'trigger', schema: triggerSchema };
