import * as v from 'valibot';

// What the REST interface says of records, as far as this library relies on it: what a newer server says besides is
// kept. Moments are ISO 8601 in UTC.

const text = v.string();
const optionalText = v.optional(v.string());
const optionalCount = v.optional(v.number());
const labels = v.optional(v.record(v.string(), v.string()));
const access = v.optional(v.record(v.string(), v.string()));
/** Given back in `If-Match` by whoever changes or deletes what it has read. */
const version = v.optional(v.number(), 0);

export const targetSchema = v.looseObject({ kind: v.picklist(['machine', 'group']), id: text });
/** Where runs go: whoever holds the key that credentials are sealed to. */
export type TargetRef = v.InferOutput<typeof targetSchema>;

export const publicKeySchema = v.looseObject({ kid: text, suite: text, point: text });

export const machineSchema = v.looseObject({
  id: text,
  version,
  name: text,
  description: optionalText,
  owner: optionalText,
  access,
  state: optionalText,
  reasons: v.optional(v.array(text)),
  presence: v.optional(
    v.looseObject({
      state: optionalText,
      lastSignalAt: optionalText,
      agentVersion: optionalText,
      os: optionalText,
    }),
  ),
  running: v.optional(v.looseObject({ unattended: v.number(), attended: v.number() })),
  waiting: optionalCount,
  fingerprint: optionalText,
  group: v.optional(v.looseObject({ id: text })),
  labels,
});
export type MachineView = v.InferOutput<typeof machineSchema>;

export const groupSchema = v.looseObject({
  id: text,
  version,
  name: text,
  description: optionalText,
  owner: optionalText,
  access,
  state: optionalText,
  members: v.optional(v.array(text)),
  waiting: optionalCount,
});
export type GroupView = v.InferOutput<typeof groupSchema>;

export const connectionSchema = v.looseObject({
  id: text,
  version,
  name: text,
  kind: v.picklist(['password', 'vaultRef', 'none']),
  target: targetSchema,
  owner: optionalText,
  access,
  runOwner: optionalText,
  accountName: optionalText,
  credentialVersion: v.number(),
  kid: optionalText,
  suspended: v.optional(v.looseObject({ code: text, at: optionalText })),
});
export type ConnectionView = v.InferOutput<typeof connectionSchema>;

/** The states that a run does not leave by itself. A lost one may still turn out to have ended. */
const ENDED: ReadonlySet<string> = new Set([
  'Succeeded',
  'Failed',
  'Cancelled',
  'TimedOut',
  'Skipped',
  'Lost',
]);

export const runSchema = v.looseObject({
  id: text,
  version,
  state: text,
  connectionId: text,
  target: targetSchema,
  machineId: optionalText,
  mode: optionalText,
  priority: optionalText,
  owner: optionalText,
  jobRef: optionalText,
  attempt: optionalCount,
  queuedAt: optionalText,
  startedAt: optionalText,
  endedAt: optionalText,
  exitCode: optionalCount,
  fault: v.optional(v.looseObject({ code: text, message: optionalText, subCode: optionalText })),
  innerError: optionalText,
  answers: v.optional(
    v.record(
      v.string(),
      v.looseObject({ code: text, message: optionalText, at: optionalText, times: optionalCount }),
    ),
  ),
});
export type RunView = v.InferOutput<typeof runSchema>;

/** What waits for a machine or a group. */
export const runPageSchema = v.looseObject({ items: v.array(runSchema) });

export function isOver({ state }: Pick<RunView, 'state'>): boolean {
  return ENDED.has(state);
}

export const runEventSchema = v.looseObject({
  number: v.number(),
  at: optionalText,
  type: text,
  machineId: optionalText,
  attempt: optionalCount,
  code: optionalText,
  message: optionalText,
  by: optionalText,
});
export type RunEvent = v.InferOutput<typeof runEventSchema>;

export const logItemSchema = v.looseObject({
  number: v.number(),
  attempt: v.number(),
  offset: v.number(),
  /** The bytes in base64. */
  data: text,
});

export const progressSchema = v.looseObject({
  number: v.number(),
  step: optionalText,
  done: optionalCount,
  total: optionalCount,
  text: optionalText,
});
export type RunProgress = v.InferOutput<typeof progressSchema>;

export const outputsSchema = v.looseObject({
  outputs: v.optional(v.record(v.string(), v.unknown()), {}),
  /** Envelopes; whoever asked for the run has the key. */
  sealedOutputs: v.optional(v.record(v.string(), v.unknown()), {}),
});
export type RunOutputs = v.InferOutput<typeof outputsSchema>;

export const environmentSchema = v.looseObject({
  id: text,
  version,
  displayName: optionalText,
  roles: v.optional(v.record(v.string(), v.string())),
  minAgentVersion: optionalText,
});
export type EnvironmentView = v.InferOutput<typeof environmentSchema>;

export const userSchema = v.looseObject({
  id: text,
  displayName: optionalText,
  isAdmin: v.optional(v.boolean()),
  isDisabled: v.optional(v.boolean()),
});
export type UserView = v.InferOutput<typeof userSchema>;

export const tokenSchema = v.looseObject({
  id: text,
  name: text,
  principal: optionalText,
  isAdmin: v.optional(v.boolean()),
  expiresAt: optionalText,
  /** The token itself: told once, in the answer to the request that makes it. */
  token: optionalText,
});
export type TokenView = v.InferOutput<typeof tokenSchema>;

export const activationCodeSchema = v.looseObject({
  id: text,
  name: text,
  expiresAt: optionalText,
  usesLeft: optionalCount,
  groupId: optionalText,
  labels,
  /** The code itself: told once, in the answer to the request that makes it. */
  code: optionalText,
});
export type ActivationCodeView = v.InferOutput<typeof activationCodeSchema>;

const automation = {
  id: text,
  version,
  name: text,
  isEnabled: v.boolean(),
  owner: optionalText,
  access,
  runOwner: optionalText,
  /** The body of a request for a run. */
  run: v.looseObject({ connectionId: text }),
};

export const scheduleSchema = v.looseObject({
  ...automation,
  cron: optionalText,
  timeZone: optionalText,
  everySeconds: optionalCount,
  nextAt: optionalText,
  last: v.optional(
    v.looseObject({ at: text, outcome: text, runId: optionalText, code: optionalText }),
  ),
});
export type ScheduleView = v.InferOutput<typeof scheduleSchema>;

/** What became of a schedule, each time. */
export const outcomePageSchema = v.looseObject({
  items: v.array(
    v.looseObject({
      at: text,
      dueAt: text,
      outcome: text,
      runId: optionalText,
      code: optionalText,
      message: optionalText,
    }),
  ),
});

export const triggerSchema = v.looseObject({
  ...automation,
  runsPerMinuteMax: optionalCount,
  last: v.optional(v.looseObject({ at: text, runId: text })),
  /** What requests are signed with: told once, in the answer to the request that makes it. */
  secret: optionalText,
});
export type TriggerView = v.InferOutput<typeof triggerSchema>;

export const auditEntrySchema = v.looseObject({
  number: v.number(),
  at: optionalText,
  action: text,
  by: text,
  object: text,
  details: v.optional(v.record(v.string(), v.unknown())),
});
export type AuditEntryView = v.InferOutput<typeof auditEntrySchema>;

export const callerSchema = v.looseObject({ name: text, isAdmin: v.boolean() });

/** What became of the credentials that were sealed to a group's present key. */
export const resealedSchema = v.looseObject({
  resealed: v.number(),
  refused: v.array(v.looseObject({ connectionId: v.string(), code: v.string() })),
});
