import * as v from 'valibot';

// What starts runs by itself, as far as this page shows it.

const automation = {
  id: v.string(),
  version: v.number(),
  name: v.string(),
  owner: v.string(),
  isEnabled: v.boolean(),
  runOwner: v.string(),
  run: v.object({ connectionId: v.string(), job: v.object({ ref: v.string() }) }),
};

export const scheduleSchema = v.object({
  ...automation,
  cron: v.optional(v.string()),
  timeZone: v.string(),
  everySeconds: v.optional(v.number()),
  nextAt: v.optional(v.string()),
  last: v.optional(
    v.object({
      at: v.string(),
      outcome: v.string(),
      runId: v.optional(v.string()),
      code: v.optional(v.string()),
      message: v.optional(v.string()),
    }),
  ),
});
export type Schedule = v.InferOutput<typeof scheduleSchema>;

export const triggerSchema = v.object({ ...automation, runsPerMinuteMax: v.number() });
export type Trigger = v.InferOutput<typeof triggerSchema>;
/** In the answer that tells the secret, once. */
export const newTriggerSchema = v.object({ ...triggerSchema.entries, secret: v.string() });
