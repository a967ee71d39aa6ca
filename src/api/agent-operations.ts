import * as v from 'valibot';
import { idSchema } from '../dispatch/records.ts';
import {
  ERROR_MESSAGE_CHARS_MAX,
  INNER_ERROR_CHARS_MAX,
  LOG_CHUNK_BYTES_MAX,
  OUTPUT_BYTES_MAX,
} from '../jobs/limits.ts';
import { helloSchema, progressSchema, renewedSchema, resultSchema } from '../jobs/messages.ts';
import { Problem, type FieldFault } from '../dispatch/problem.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type ApiContext, type Call, type Operation } from './operation.ts';
import { numberParameter } from './request-fields.ts';
import { machineIn, param, type MachineScope } from './scope.ts';
import { momentText, momentTextSchema } from './shown.ts';
import { jwkShownSchema } from './shown-records.ts';

// What machines say, each of itself: its token tells which one it is.

/** Machines say hello so often: well within the time after which they count as stale. */
export const HELLO_EVERY_SECONDS = 30;
/** Journals of 1,000 entries and long lists of sessions. */
const HELLO_BYTES_MAX = 1024 * 1024;
/** Outputs, what an error says in the longest spelling, and the rest. Longer outputs than may be get their own code. */
const RESULT_BYTES_MAX =
  OUTPUT_BYTES_MAX + 6 * (ERROR_MESSAGE_CHARS_MAX + INNER_ERROR_CHARS_MAX) + 1024 * 1024;

const ATTEMPT = '/environments/{env}/agent/runs/{id}/attempts/{attempt}';
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const fenceSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const startSchema = v.object({
  fence: fenceSchema,
  instance: idSchema,
  agentVersion: v.optional(v.pipe(v.string(), v.maxLength(256))),
});
const renewSchema = v.object({ fence: fenceSchema, isLaunched: v.boolean() });
const interruptedSchema = v.object({ fence: fenceSchema });
const renewedAnswer = {
  status: 200,
  text: 'The lease, and what is wanted of the run',
  schema: renewedSchema,
};
const LOST = ['LeaseLost', 'NotFound', 'VersionConflict'] as const;

interface AttemptScope extends MachineScope {
  readonly about: { readonly runId: string; readonly attempt: number };
}

export const AGENT_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'POST',
    path: '/environments/{env}/agent/hello',
    who: 'machine',
    tag: 'Agent',
    summary: 'Says what the machine is and has, and asks what became of its runs',
    body: { kind: 'json', schema: helloSchema, bytesMax: HELLO_BYTES_MAX },
    answers: [
      {
        status: 200,
        text: 'What became of each run of the journal, and when to say hello again',
        schema: v.strictObject({
          v: v.literal(1),
          serverTime: momentTextSchema,
          clockSkewMs: v.number(),
          standings: v.array(
            v.strictObject({
              runId: idSchema,
              standing: v.picklist(['current', 'over', 'lost']),
            }),
          ),
          helloEverySeconds: count,
          /** Successors of keys that the machine has pinned are to be pinned, too. */
          dispatchKeys: v.array(jwkShownSchema),
        }),
      },
    ],
    problems: ['MachineIdentityConflict', 'MachineNotFound', 'VersionConflict'],
    async answer(api, call) {
      const { machineId, services } = machineIn(api, call);
      requireSame('machineId', call.body.machineId, machineId);
      const { clockSkewMs } = await services.presence.hello(
        machineId,
        call.body,
        call.request.remoteAddress,
      );
      const standings = await services.reports.standings(machineId, call.body.journal);
      return {
        status: 200,
        body: {
          v: 1,
          serverTime: momentText(api.wallMs()),
          clockSkewMs,
          standings,
          helloEverySeconds: HELLO_EVERY_SECONDS,
          dispatchKeys: await api.plane.keys.published(),
        },
      };
    },
  }),
  operation({
    method: 'PUT',
    path: `${ATTEMPT}/start`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Asks for permission to launch; the same process may ask again',
    body: { kind: 'json', schema: startSchema, bytesMax: BODY_BYTES_MAX },
    answers: [renewedAnswer],
    problems: LOST,
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      const body = await services.reports.start(machineId, { ...about, ...call.body });
      return { status: 200, body };
    },
  }),
  operation({
    method: 'PUT',
    path: `${ATTEMPT}/renew`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Extends the lease of a run, and learns whether it is to end',
    body: { kind: 'json', schema: renewSchema, bytesMax: BODY_BYTES_MAX },
    answers: [renewedAnswer],
    problems: LOST,
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      const body = await services.reports.renew(machineId, { ...about, ...call.body });
      return { status: 200, body };
    },
  }),
  operation({
    method: 'PUT',
    path: `${ATTEMPT}/start-interrupted`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Gives a permission back: nothing was launched',
    body: { kind: 'json', schema: interruptedSchema, bytesMax: BODY_BYTES_MAX },
    answers: [{ status: 204, text: 'Taken' }],
    problems: LOST,
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      await services.reports.startInterrupted(machineId, { ...about, ...call.body });
      return { status: 204 };
    },
  }),
  operation({
    method: 'PUT',
    path: `${ATTEMPT}/result`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Says how a run ended; taken once, and thanked for as often as it is said',
    body: { kind: 'json', schema: resultSchema, bytesMax: RESULT_BYTES_MAX },
    answers: [{ status: 204, text: 'Taken' }],
    problems: LOST,
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      requireAttempt(about, call.body);
      await services.reports.result(machineId, call.body);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${ATTEMPT}/progress`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Says how far a run is',
    body: { kind: 'json', schema: progressSchema, bytesMax: BODY_BYTES_MAX },
    answers: [{ status: 204, text: 'Taken' }],
    problems: LOST,
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      requireAttempt(about, call.body);
      await services.reports.progress(machineId, call.body);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${ATTEMPT}/logs`,
    who: 'machine',
    tag: 'Agent',
    summary: 'Adds a chunk to the log of an attempt',
    query: v.strictObject({
      offset: numberParameter(0, Number.MAX_SAFE_INTEGER),
      fence: numberParameter(1, Number.MAX_SAFE_INTEGER),
      sha256: v.pipe(v.string(), v.regex(/^[0-9a-fA-F]{64}$/, 'must be 64 hex digits')),
    }),
    body: { kind: 'bytes', schema: v.instance(Uint8Array), bytesMax: LOG_CHUNK_BYTES_MAX },
    answers: [
      {
        status: 200,
        text: 'Whether it was taken, and where to go on',
        schema: v.strictObject({
          isTaken: v.boolean(),
          nextOffset: count,
          isTruncated: v.boolean(),
        }),
      },
    ],
    problems: [...LOST, 'TotalChunksMismatch'],
    async answer(api, call) {
      const { machineId, services, about } = attemptIn(api, call);
      const chunk = { ...about, ...call.query, bytes: call.body };
      return { status: 200, body: await services.logs.append(machineId, chunk) };
    },
  }),
];

/** The attempt that the path names. */
function attemptIn(
  api: ApiContext,
  call: Pick<Call<unknown, unknown>, 'params' | 'identity'>,
): AttemptScope {
  const scope = machineIn(api, call);
  const about = { runId: param(call, 'id'), attempt: Number(param(call, 'attempt')) };
  return { ...scope, about };
}

/** What stands in the path and in the body is the same thing. */
function requireAttempt(
  about: AttemptScope['about'],
  said: { readonly runId: string; readonly attempt: number },
): void {
  requireSame('runId', said.runId, about.runId);
  requireSame('attempt', said.attempt, about.attempt);
}

function requireSame(path: string, said: string | number, known: string | number): void {
  if (said === known) return;
  const errors: FieldFault[] = [{ path, message: 'is not what the request is about' }];
  throw new Problem('RequestMalformed', undefined, { errors });
}
