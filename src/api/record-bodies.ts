import * as v from 'valibot';
import {
  descriptionSchema,
  environmentIdSchema,
  groupPackageSchema,
  idSchema,
  labelsSchema,
  nameSchema,
  roleSchema,
  targetSchema,
} from '../dispatch/records.ts';
import { runTemplateSchema } from '../dispatch/run-request.ts';
import { envelopeSchema } from '../jobs/messages.ts';

// What requests may bring, as the OpenAPI document shows it. The services check their bodies themselves and
// have the last word; what is refused here never reaches them. These stand here because the services keep
// their schemas to themselves.

const DAY_SECONDS = 24 * 3_600;
/** Inputs, sealed inputs and job of a run together as JSON: a record has 4 Mi characters. */
const RUN_INPUT_CHARS_MAX = 3 * 1024 * 1024;
/** Of a schedule or trigger: what is run with it is a record of its own again, with the inputs of the trigger. */
const TEMPLATE_CHARS_MAX = 1024 * 1024;
export const RUN_BODY_BYTES_MAX = RUN_INPUT_CHARS_MAX + 64 * 1024;

const lookAhead = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(50));
const version = v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/));
const accountName = v.pipe(v.string(), v.minLength(1), v.maxLength(256));
const vaultRef = v.pipe(v.string(), v.minLength(1), v.maxLength(1_024));
const base64url = (chars: number) =>
  v.pipe(v.string(), v.regex(new RegExp(`^[A-Za-z0-9_-]{${chars}}$`)));

export const environmentBodySchema = v.strictObject({
  id: environmentIdSchema,
  displayName: v.optional(nameSchema),
});
export const environmentPatchSchema = v.strictObject({
  displayName: v.optional(nameSchema),
  minAgentVersion: v.optional(v.nullable(version)),
  /** For how long runs are kept after their end. */
  runDays: v.optional(seconds(1, 365)),
});
export const roleBodySchema = v.strictObject({ role: roleSchema });

export const userBodySchema = v.strictObject({
  id: idSchema,
  displayName: v.optional(nameSchema),
  isAdmin: v.optional(v.boolean(), false),
});
export const userPatchSchema = v.strictObject({ isDisabled: v.boolean() });

export const codeBodySchema = v.strictObject({
  name: v.optional(nameSchema, 'activation code'),
  expiresInSeconds: v.optional(seconds(60, 30 * DAY_SECONDS), DAY_SECONDS),
  uses: v.optional(seconds(1, 10_000), 1),
  groupId: v.optional(idSchema),
  labels: v.optional(labelsSchema, {}),
});

export const groupBodySchema = v.strictObject({
  name: nameSchema,
  description: v.optional(descriptionSchema, ''),
  lookAhead: v.optional(lookAhead, 0),
});
export const groupPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  description: v.optional(descriptionSchema),
  lookAhead: v.optional(lookAhead),
  maintenance: v.optional(v.boolean()),
});
export const keyPackageBodySchema = v.strictObject({
  point: base64url(87),
  package: groupPackageSchema,
});
export const memberBodySchema = v.strictObject({
  machineId: idSchema,
  /** `secondary`: the next key, of a machine that is in the group. */
  key: v.optional(v.picklist(['primary', 'secondary']), 'primary'),
});
export const proofBodySchema = v.strictObject({
  challengeId: idSchema,
  answer: base64url(43),
  signature: base64url(86),
});

export const connectionBodySchema = v.strictObject({
  id: idSchema,
  name: nameSchema,
  kind: v.optional(v.picklist(['password', 'vaultRef', 'none']), 'password'),
  target: targetSchema,
  envelope: v.optional(envelopeSchema),
  vaultRef: v.optional(vaultRef),
  accountName: v.optional(accountName),
  mayReseal: v.optional(v.boolean(), false),
});
export const connectionPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  accountName: v.optional(accountName),
  mayReseal: v.optional(v.boolean()),
  target: v.optional(targetSchema),
  envelope: v.optional(envelopeSchema),
  vaultRef: v.optional(vaultRef),
  credentialVersion: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(2))),
});

export const runBodySchema = v.pipe(
  v.strictObject(runTemplateSchema.entries),
  v.check(
    ({ job, inputs, sealedInputs }) =>
      JSON.stringify([job, inputs, sealedInputs]).length <= RUN_INPUT_CHARS_MAX,
    `job, inputs and sealedInputs must be at most ${RUN_INPUT_CHARS_MAX} characters of JSON together`,
  ),
);

const templateSchema = v.pipe(
  runTemplateSchema,
  v.check(
    ({ job, inputs }) => JSON.stringify([job, inputs]).length <= TEMPLATE_CHARS_MAX,
    `job and inputs must be at most ${TEMPLATE_CHARS_MAX} characters of JSON together`,
  ),
);
const scheduleEntries = {
  cron: v.optional(v.pipe(v.string(), v.maxLength(200))),
  timeZone: v.optional(v.pipe(v.string(), v.maxLength(64))),
  everySeconds: v.optional(seconds(60, 366 * DAY_SECONDS)),
  onMissed: v.optional(v.picklist(['skip', 'once'])),
  isEnabled: v.optional(v.boolean()),
};
export const scheduleBodySchema = v.strictObject({
  name: nameSchema,
  ...scheduleEntries,
  run: templateSchema,
});
export const schedulePatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  ...scheduleEntries,
  run: v.optional(templateSchema),
});
const triggerEntries = {
  isEnabled: v.optional(v.boolean()),
  runsPerMinuteMax: v.optional(seconds(1, 600)),
};
export const triggerBodySchema = v.strictObject({
  name: nameSchema,
  ...triggerEntries,
  run: templateSchema,
});
export const triggerPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  ...triggerEntries,
  run: v.optional(templateSchema),
});
export const connectionTestSchema = v.strictObject({
  machineId: v.optional(idSchema),
  everyMember: v.optional(v.boolean(), false),
});

function seconds(min: number, max: number) {
  return v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));
}
