import * as v from 'valibot';
import { isJobErrorCode, type JobErrorCode } from './error-codes.ts';
import { ERROR_MESSAGE_CHARS_MAX, INNER_ERROR_CHARS_MAX } from './limits.ts';

// What control plane and machine say to each other: JSON, checked in one place. Unknown fields are
// ignored. Source: job-dispatch.md section 10.

export const MESSAGE_VERSION = 1;

const id = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~-]{1,64}$/));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const positive = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const line = v.pipe(v.string(), v.maxLength(256));
const moment = v.pipe(v.string(), v.isoTimestamp());
const base64url = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]*$/), v.maxLength(1_000_000));
const code = v.custom<JobErrorCode>(value => typeof value === 'string' && isJobErrorCode(value));
const json = v.record(v.string(), v.unknown());

export const envelopeSchema = v.object({
  v: v.literal(1),
  suite: v.literal('p256'),
  kid: v.pipe(base64url, v.length(43)),
  enc: v.pipe(base64url, v.length(87)),
  ct: v.pipe(base64url, v.minLength(22), v.maxLength(16_384)),
});

export const keyHolderKindSchema = v.picklist(['machine', 'group', 'cluster']);

/** One attempt of a run; `fence` rises with each, and a machine takes none below one it has seen. */
const attempt = { runId: id, attempt: positive, fence: positive };

export const journalStateSchema = v.picklist(['ACCEPTED', 'GRANTED', 'LAUNCHED', 'RESULT']);

export const helloSchema = v.object({
  v: v.literal(1),
  type: v.literal('hello'),
  machineId: id,
  installId: id,
  /** Drawn anew each time the service starts. */
  instance: id,
  agentVersion: line,
  os: line,
  capacity: v.object({ unattended: count, attended: count }),
  sessions: v.pipe(
    v.array(v.object({ user: line, state: v.picklist(['active', 'locked', 'disconnected']) })),
    v.maxLength(100),
  ),
  labels: v.record(line, line),
  keys: v.pipe(v.array(base64url), v.maxLength(100)),
  /** The machine's clock. */
  clock: moment,
  transport: v.optional(v.picklist(['websocket', 'poll'])),
  journal: v.pipe(v.array(v.object({ ...attempt, state: journalStateSchema })), v.maxLength(1_000)),
});
export type Hello = v.InferOutput<typeof helloSchema>;

export const modeSchema = v.picklist(['attended', 'unattended']);

/** What is to be run. `command`: a program and its arguments; other kinds are of the job's own meaning. */
export const jobSchema = v.object({
  ref: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
  kind: v.picklist(['command', 'probe', 'simulated']),
  minAgentVersion: v.optional(line),
  /** Program and arguments, of a command. */
  command: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(32_768))), v.maxLength(256))),
  /** For a simulated session host: what the run does. */
  script: v.optional(json),
  /** An asset that the executor fetches under the run's account before it begins. */
  asset: v.optional(
    v.object({
      url: v.pipe(v.string(), v.url(), v.maxLength(2_048)),
      sha256: v.pipe(v.string(), v.hexadecimal(), v.length(64)),
    }),
  ),
});
export type Job = v.InferOutput<typeof jobSchema>;

export const offerSchema = v.object({
  v: v.literal(1),
  type: v.literal('offer'),
  ...attempt,
  deadline: moment,
  mode: modeSchema,
  job: jobSchema,
  connection: v.optional(
    v.object({
      id,
      version: positive,
      targetKind: keyHolderKindSchema,
      targetId: id,
    }),
  ),
  credential: v.optional(envelopeSchema),
  inputs: json,
  sealedInputs: v.record(line, envelopeSchema),
  limits: v.object({
    runSeconds: positive,
    logBytes: count,
    chunkBytes: positive,
    outputBytes: count,
  }),
  options: v.object({ reuseSession: v.boolean() }),
  trace: v.optional(v.object({ traceparent: v.optional(line) })),
});
export type Offer = v.InferOutput<typeof offerSchema>;

export const offerAnswerSchema = v.variant('type', [
  v.object({ v: v.literal(1), type: v.literal('accept'), ...attempt }),
  v.object({
    v: v.literal(1),
    type: v.literal('refuse'),
    ...attempt,
    code,
    message: v.optional(v.pipe(v.string(), v.maxLength(ERROR_MESSAGE_CHARS_MAX))),
    retryAfterSeconds: v.optional(count),
  }),
]);
export type OfferAnswer = v.InferOutput<typeof offerAnswerSchema>;

export const cancelModeSchema = v.picklist(['safe-stop', 'stop', 'kill']);

/** What a machine is told in answer to each renewal, and at once on a live channel. */
export const renewedSchema = v.object({
  v: v.literal(1),
  type: v.literal('renewed'),
  leaseUntil: moment,
  cancel: v.nullable(v.object({ mode: cancelModeSchema, graceSeconds: count })),
});
export type Renewed = v.InferOutput<typeof renewedSchema>;

export const resultSchema = v.object({
  v: v.literal(1),
  type: v.literal('result'),
  ...attempt,
  status: v.picklist(['Succeeded', 'Failed', 'Cancelled', 'TimedOut', 'Lost']),
  outputs: v.optional(json),
  sealedOutputs: v.optional(v.record(line, envelopeSchema)),
  error: v.optional(
    v.object({
      code,
      message: v.pipe(v.string(), v.maxLength(ERROR_MESSAGE_CHARS_MAX)),
      inner: v.optional(v.pipe(v.string(), v.maxLength(INNER_ERROR_CHARS_MAX))),
    }),
  ),
  exitCode: v.optional(v.pipe(v.number(), v.safeInteger())),
  accountName: v.optional(line),
  stats: v.optional(
    v.object({ cpuPercent: v.optional(v.number()), memoryMb: v.optional(v.number()) }),
  ),
  logBytes: v.optional(count),
});
export type Result = v.InferOutput<typeof resultSchema>;

export const progressSchema = v.object({
  v: v.literal(1),
  type: v.literal('progress'),
  ...attempt,
  step: line,
  done: v.optional(count),
  total: v.optional(count),
  text: v.optional(v.pipe(v.string(), v.maxLength(1_000))),
});
export type Progress = v.InferOutput<typeof progressSchema>;

export const cancelSchema = v.object({
  v: v.literal(1),
  type: v.literal('cancel'),
  runId: id,
  mode: cancelModeSchema,
  graceSeconds: count,
  by: line,
});
export type Cancel = v.InferOutput<typeof cancelSchema>;

export const commandSchema = v.object({
  v: v.literal(1),
  type: v.literal('command'),
  id,
  name: v.picklist([
    'rotate-group-key',
    'reseal',
    'collect-diagnostics',
    'update',
    'drain',
    'group-key-changed',
  ]),
  args: json,
  notAfter: moment,
});
export type Command = v.InferOutput<typeof commandSchema>;

/** Parses a message of one kind; a text instead says what is wrong with it. */
export function parseMessage<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
): { readonly message: v.InferOutput<Schema> } | { readonly why: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { why: 'not JSON' };
  }
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return { message: parsed.output };
  const whys = parsed.issues.map(issue => `${v.getDotPath(issue) ?? '(all)'}: ${issue.message}`);
  return { why: whys.join('; ') };
}
