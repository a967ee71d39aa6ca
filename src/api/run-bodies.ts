import * as v from 'valibot';
import { runRequestSchema, type RunRequest } from '../dispatch/run-request.ts';
import { newScheduleSchema, schedulePatchSchema } from '../dispatch/schedules.ts';
import { newTriggerSchema, triggerPatchSchema } from '../dispatch/triggers.ts';

// Runs, and what is run later, with a limit of what a record of the store can hold.

/** Inputs, sealed inputs and job of a run together as JSON: a record has 4 Mi characters. */
const RUN_INPUT_CHARS_MAX = 3 * 1024 * 1024;
/** Of a schedule or trigger: what is run with it is a record of its own again, with the inputs of the trigger. */
const TEMPLATE_CHARS_MAX = 1024 * 1024;
export const RUN_BODY_BYTES_MAX = RUN_INPUT_CHARS_MAX + 64 * 1024;

const TEMPLATE_TOO_LONG = tooLong('run.', TEMPLATE_CHARS_MAX);

export const runBodySchema = v.pipe(
  runRequestSchema,
  v.check(request => fits(request, RUN_INPUT_CHARS_MAX), tooLong('', RUN_INPUT_CHARS_MAX)),
);
export const scheduleBodySchema = v.pipe(
  newScheduleSchema,
  v.check(({ run }) => fits(run, TEMPLATE_CHARS_MAX), TEMPLATE_TOO_LONG),
);
export const schedulePatchBodySchema = v.pipe(
  schedulePatchSchema,
  v.check(({ run }) => fits(run, TEMPLATE_CHARS_MAX), TEMPLATE_TOO_LONG),
);
export const triggerBodySchema = v.pipe(
  newTriggerSchema,
  v.check(({ run }) => fits(run, TEMPLATE_CHARS_MAX), TEMPLATE_TOO_LONG),
);
export const triggerPatchBodySchema = v.pipe(
  triggerPatchSchema,
  v.check(({ run }) => fits(run, TEMPLATE_CHARS_MAX), TEMPLATE_TOO_LONG),
);

/** As it will be kept: `1e20` alone becomes five times as long. */
function fits(run: RunRequest | undefined, charsMax: number): boolean {
  if (run === undefined) return true;
  const { job, inputs, sealedInputs } = run;
  return JSON.stringify([job, inputs, sealedInputs]).length <= charsMax;
}

function tooLong(prefix: string, charsMax: number): string {
  const names = ['job', 'inputs', 'sealedInputs'].map(name => prefix + name).join(', ');
  return `${names} must be at most ${charsMax} characters of JSON together`;
}
