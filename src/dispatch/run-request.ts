import * as v from 'valibot';
import {
  INPUT_BYTES_MAX,
  QUEUE_SECONDS_DEFAULT,
  QUEUE_SECONDS_MIN,
  RUN_SECONDS_DEFAULT,
  RUN_SECONDS_MAX,
} from '../jobs/limits.ts';
import { envelopeSchema, jobSchema, modeSchema } from '../jobs/messages.ts';
import { parseBody } from './checks.ts';
import { Problem } from './problem.ts';
import { idSchema, labelsSchema } from './records.ts';

/** Runs with whoever is signed in wait no longer than this. Source: job-dispatch.md section 6. */
export const SIGNED_IN_QUEUE_SECONDS_MAX = 3_600;
const QUEUE_SECONDS_MAX = 7 * 24 * 3_600;
const ATTEMPTS_MAX = 10;
/** They are one record, which has its own limit. */
const RUN_INPUT_CHARS_MAX = 3 * 1024 * 1024;
/** What is run later is part of a record. */
const TEMPLATE_CHARS_MAX = 1024 * 1024;
const OF_ONE_RUN = 'must not have id, parentRunId or sealedInputs: they belong to one run';

export const runRequestSchema = v.strictObject({
  /** Made by the caller when it seals inputs, which are bound to it. */
  id: v.optional(idSchema),
  connectionId: idSchema,
  job: v.pipe(
    jobSchema,
    v.check(
      ({ kind, command = [] }) => kind !== 'command' || command.length > 0,
      'a command needs at least a program',
    ),
  ),
  mode: v.optional(modeSchema, 'unattended'),
  priority: v.optional(v.picklist(['high', 'normal']), 'normal'),
  inputs: v.optional(
    v.pipe(
      v.record(v.string(), v.unknown()),
      v.check(value => fitsInput(value), `must be at most ${INPUT_BYTES_MAX} bytes`),
    ),
    {},
  ),
  sealedInputs: v.optional(
    v.pipe(
      v.record(v.string(), envelopeSchema),
      v.check(value => fitsInput(value), `must be at most ${INPUT_BYTES_MAX} bytes`),
    ),
    {},
  ),
  timeoutSeconds: v.optional(seconds(1, RUN_SECONDS_MAX), RUN_SECONDS_DEFAULT),
  queueTimeoutSeconds: v.optional(seconds(QUEUE_SECONDS_MIN, QUEUE_SECONDS_MAX)),
  whenOffline: v.optional(v.picklist(['queue', 'fail']), 'queue'),
  onLost: v.optional(v.picklist(['fail', 'requeue']), 'fail'),
  maxAttempts: v.optional(seconds(1, ATTEMPTS_MAX), 1),
  callbackUrl: v.optional(v.pipe(v.string(), v.maxLength(2_048))),
  labels: v.optional(labelsSchema, {}),
  correlationId: v.optional(v.pipe(v.string(), v.maxLength(256))),
  parentRunId: v.optional(idSchema),
});

export type RunRequest = v.InferOutput<typeof runRequestSchema>;

/** What is run later and again: nothing in it may belong to one run. */
export const runTemplateSchema = v.pipe(
  runRequestSchema,
  v.check(({ id, parentRunId }) => id === undefined && parentRunId === undefined, OF_ONE_RUN),
  v.check(
    template => JSON.stringify(template).length <= TEMPLATE_CHARS_MAX,
    `must be at most ${TEMPLATE_CHARS_MAX} characters of JSON`,
  ),
  // They are bound to the id of the run that they are for.
  v.check(({ sealedInputs }) => Object.keys(sealedInputs).length === 0, OF_ONE_RUN),
  v.check(
    ({ callbackUrl }) => callbackUrl === undefined || isCallbackAllowed(callbackUrl),
    'callbackUrl must be https, with a public host name and no port',
  ),
);

/** Checks what a caller asks to run. Throws `RequestMalformed` with all faults, or `CallbackUrlRefused`. */
export function parseRunRequest(body: unknown): RunRequest {
  const request = parseBody(runRequestSchema, body);
  const { job, inputs, sealedInputs } = request;
  if (JSON.stringify([job, inputs, sealedInputs]).length > RUN_INPUT_CHARS_MAX) {
    const message = `job and inputs must be at most ${RUN_INPUT_CHARS_MAX} characters of JSON together`;
    throw new Problem('RequestMalformed', undefined, { errors: [{ path: '', message }] });
  }
  if (request.callbackUrl !== undefined && !isCallbackAllowed(request.callbackUrl)) {
    throw new Problem('CallbackUrlRefused');
  }
  return request;
}

/** How long a run waits at most. */
export function queueSecondsOf(request: RunRequest, isSignedIn: boolean): number {
  const asked = request.queueTimeoutSeconds;
  if (!isSignedIn) return asked ?? QUEUE_SECONDS_DEFAULT;
  return Math.min(asked ?? SIGNED_IN_QUEUE_SECONDS_MAX, SIGNED_IN_QUEUE_SECONDS_MAX);
}

/**
 * Https to a name with a dot, no port of its own and no user. Where the name leads is checked when it is
 * called: names change.
 */
function isCallbackAllowed(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, port, username, password, hash } = new URL(text);
  // WHATWG hosts that end in a number are IPv4 literals, in whatever spelling they came.
  const isName = /^(?=.*\.)[a-z0-9.-]+\.[a-z][a-z0-9-]*$/.test(hostname);
  const isLocal = /(?:^|\.)(?:localhost|local|internal|localdomain)$/.test(hostname);
  return protocol === 'https:' && isName && !isLocal && port + username + password + hash === '';
}

function fitsInput(value: unknown): boolean {
  return Buffer.byteLength(JSON.stringify(value)) <= INPUT_BYTES_MAX;
}

function seconds(min: number, max: number) {
  return v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));
}
