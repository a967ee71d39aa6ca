import * as v from 'valibot';

// What of the API's representations this page shows. Members that are not named here are ignored, so a
// newer server does no harm.

const text = v.string();
const maybeText = v.optional(v.string());
/** ISO 8601. */
const moment = v.string();
const maybeMoment = v.optional(moment);
const count = v.number();
const flag = v.boolean();

const shared = {
  id: text,
  version: count,
  owner: text,
  access: v.record(text, text),
  createdAt: maybeMoment,
  createdBy: maybeText,
};

/** Where the server is reached. */
export const endpointsSchema = v.object({
  /** `host[:port]` for machines; absent: where this page is. */
  machineHost: maybeText,
});

export function listOf<Value>(item: v.GenericSchema<unknown, Value>) {
  return v.object({ items: v.array(item), next: v.optional(v.union([text, count])) });
}

export interface List<Value> {
  readonly items: readonly Value[];
  readonly next?: string | number | undefined;
}

export const meSchema = v.object({ name: text, isAdmin: flag });
export type Me = v.InferOutput<typeof meSchema>;

export const environmentSchema = v.object({
  id: text,
  displayName: text,
  minAgentVersion: maybeText,
});
export type Environment = v.InferOutput<typeof environmentSchema>;

export const publicKeySchema = v.object({ kid: text, suite: text, point: text });

export const machineSchema = v.object({
  ...shared,
  tenant: text,
  name: text,
  description: text,
  os: text,
  registeredVersion: text,
  labels: v.record(text, text),
  allocatedBots: count,
  reuseSessions: flag,
  isInMaintenance: flag,
  isDraining: flag,
  hasIdentityConflict: flag,
  encryptionKey: v.object({ kid: text }),
  group: v.optional(v.object({ id: text, provedKid: maybeText })),
  state: text,
  reasons: v.array(text),
  presence: v.object({
    state: text,
    lastSignalAt: maybeMoment,
    agentVersion: maybeText,
    os: maybeText,
    transport: maybeText,
    sourceAddress: maybeText,
    clockSkewMs: v.optional(count),
    capacity: v.optional(v.object({ unattended: count, attended: count })),
    sessions: v.optional(v.array(v.object({ user: text, state: text })), []),
  }),
  running: v.object({ unattended: count, attended: count }),
  waiting: count,
});
export const echoSchema = v.object({ roundTripMs: count });
export type Machine = v.InferOutput<typeof machineSchema>;

export const groupSchema = v.object({
  ...shared,
  tenant: text,
  name: text,
  description: text,
  isInMaintenance: flag,
  state: text,
  members: v.array(text),
  waiting: count,
  key: v.optional(
    v.object({
      publicKey: v.object({ kid: text }),
      passwordChangedAt: maybeMoment,
      passwordChangedBy: maybeText,
    }),
  ),
  /** Its key is being replaced. */
  rotation: v.optional(v.object({ startedAt: moment })),
});
export type Group = v.InferOutput<typeof groupSchema>;

export const keyRotationSchema = v.object({
  startedAt: moment,
  startedBy: text,
  /** Undefined until a machine has made it. */
  secondary: v.optional(publicKeySchema),
  members: v.array(v.object({ machineId: text, hasSecondary: flag })),
  /** Those that are sealed to the present key, and which of them only their owners can seal anew. */
  connections: v.object({ left: count, ofOwners: v.array(text) }),
});
export type KeyRotation = v.InferOutput<typeof keyRotationSchema>;
export const resealedSchema = v.object({
  resealed: count,
  refused: v.array(v.object({ connectionId: text, code: text })),
});

export const targetSchema = v.object({ kind: v.picklist(['machine', 'group']), id: text });
export type Target = v.InferOutput<typeof targetSchema>;

export const connectionSchema = v.object({
  ...shared,
  tenant: text,
  name: text,
  kind: text,
  target: targetSchema,
  accountName: maybeText,
  runOwner: maybeText,
  credentialVersion: count,
  kid: maybeText,
  mayReseal: flag,
  suspended: v.optional(v.object({ code: text, at: maybeMoment })),
  updatedAt: maybeMoment,
});
export type Connection = v.InferOutput<typeof connectionSchema>;

export const codeSchema = v.object({
  id: text,
  name: text,
  expiresAt: moment,
  usesLeft: count,
  groupId: maybeText,
  createdBy: text,
});
export type ActivationCode = v.InferOutput<typeof codeSchema>;
export const newCodeSchema = v.object({ ...codeSchema.entries, code: text });

export const runSchema = v.object({
  id: text,
  version: v.optional(count),
  state: text,
  attempt: count,
  owner: text,
  connectionId: text,
  target: targetSchema,
  mode: text,
  priority: text,
  topScore: v.optional(count),
  jobRef: text,
  jobKind: text,
  machineId: maybeText,
  trigger: text,
  queuedAt: moment,
  queueUntil: maybeMoment,
  assignedAt: maybeMoment,
  startedAt: maybeMoment,
  endedAt: maybeMoment,
  runSeconds: count,
  onLost: text,
  cancel: v.optional(v.object({ mode: text, by: text })),
  fault: v.optional(v.object({ code: text, message: maybeText, subCode: maybeText })),
  innerError: maybeText,
  exitCode: v.optional(count),
  accountName: maybeText,
  agentVersion: maybeText,
  parentRunId: maybeText,
  correlationId: maybeText,
  answers: v.optional(
    v.record(
      text,
      v.object({ code: text, message: maybeText, at: maybeMoment, times: v.optional(count) }),
    ),
    {},
  ),
  output: v.optional(v.object({ bytes: count })),
});
export type Run = v.InferOutput<typeof runSchema>;

export const runInputSchema = v.object({
  job: v.object({
    ref: text,
    kind: text,
    command: v.optional(v.array(text)),
  }),
  inputs: v.record(text, v.unknown()),
  sealedInputs: v.record(text, v.unknown()),
});
export type RunInput = v.InferOutput<typeof runInputSchema>;

/** Of events, progress and logs: `next` is where to go on, `isOver` says that no more will come. */
export function feedOf<Item>(item: v.GenericSchema<unknown, Item>) {
  return v.object({ items: v.array(item), next: count, isOver: flag });
}

export const outputsSchema = v.object({
  outputs: v.record(text, v.unknown()),
  sealedOutputs: v.record(text, v.unknown()),
});

export const runEventSchema = v.object({
  number: count,
  at: moment,
  type: text,
  machineId: maybeText,
  attempt: v.optional(count),
  code: maybeText,
  message: maybeText,
  by: maybeText,
});
export type RunEvent = v.InferOutput<typeof runEventSchema>;

export const progressSchema = v.object({
  number: count,
  step: text,
  done: v.optional(count),
  total: v.optional(count),
  text: maybeText,
});
export type Progress = v.InferOutput<typeof progressSchema>;

export const logChunkSchema = v.object({
  number: count,
  attempt: count,
  offset: count,
  /** Base64. */
  data: text,
});
export type LogChunk = v.InferOutput<typeof logChunkSchema>;

export const auditEntrySchema = v.object({
  number: count,
  at: moment,
  action: text,
  by: text,
  object: text,
  details: v.record(text, v.union([text, count, flag])),
});
export type AuditEntry = v.InferOutput<typeof auditEntrySchema>;
