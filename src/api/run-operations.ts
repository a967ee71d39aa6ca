import * as v from 'valibot';
import { idSchema, principalSchema } from '../dispatch/records.ts';
import { runStateSchema } from '../dispatch/run-record.ts';
import type { CancelMode } from '../dispatch/run-state.ts';
import { envelopeSchema, jobSchema } from '../jobs/messages.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import {
  operation,
  type Answer,
  type AnswerSpec,
  type ApiContext,
  type Call,
  type Operation,
} from './operation.ts';
import { RUN_BODY_BYTES_MAX, runBodySchema } from './run-bodies.ts';
import { outputParts } from './run-output.ts';
import { param, personIn } from './scope.ts';
import { CHANGE_PROBLEMS, EMPTY_BODY, NO_CONTENT, pageEntries } from './shared-specs.ts';
import { pageSchema, runShownSchema, showRun } from './shown-records.ts';

const RUNS = '/environments/{env}/runs';
const RUN_PATH = `${RUNS}/{id}`;
const jsonObject = v.record(v.string(), v.unknown());
export const runAnswer: AnswerSpec = {
  status: 200,
  text: 'The run',
  schema: runShownSchema,
  hasEtag: true,
};

/** Why a run is not taken. */
export const SUBMIT_PROBLEMS = [
  'CallbackUrlRefused',
  'ConnectionNotFound',
  'DesktopFlowsActionThrottled',
  'GroupIsEmpty',
  'IdempotencyKeyReused',
  'MachineGroupNotFound',
  'MachineNotFound',
  'NotFound',
  'QueueFull',
  'SessionCreationInvalidCredentials',
  'UnattendedUnsupportedWithOldConnection',
  'VersionConflict',
] as const;

const ASKING: readonly Operation[] = [
  operation({
    method: 'POST',
    path: RUNS,
    who: 'person',
    tag: 'Runs',
    summary: 'Asks for a run; it is kept, durably, when this answers',
    isRepeatable: true,
    headers: ['traceparent'],
    body: { kind: 'json', schema: runBodySchema, bytesMax: RUN_BODY_BYTES_MAX },
    answers: [
      { ...runAnswer, status: 202, text: 'The run, which waits now', hasLocation: true },
      { ...runAnswer, text: 'The run that the same request made before', hasLocation: true },
    ],
    problems: SUBMIT_PROBLEMS,
    async answer(api, call) {
      const { caller, environment, services } = await personIn(api, call);
      const { run, isRepeated } = await services.runs.submit(caller, environment.value, {
        body: call.json,
        key: call.idempotencyKey,
        trigger: 'api',
        traceparent: call.request.headers.get('traceparent'),
      });
      return {
        status: isRepeated ? 200 : 202,
        body: showRun(run),
        version: run.version,
        location: `/environments/${environment.id}/runs/${run.id}`,
      };
    },
  }),
  operation({
    method: 'GET',
    path: RUNS,
    who: 'person',
    tag: 'Runs',
    summary: 'Runs, the latest first',
    query: v.strictObject({
      ...pageEntries,
      state: v.optional(runStateSchema),
      connectionId: v.optional(idSchema),
      machineId: v.optional(idSchema),
      groupId: v.optional(idSchema),
      owner: v.optional(principalSchema),
    }),
    answers: [{ status: 200, text: 'A page of runs', schema: pageSchema(runShownSchema) }],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { items, next } = await services.runs.list(caller, call.query);
      return { status: 200, body: { items: items.map(showRun), next } };
    },
  }),
  operation({
    method: 'GET',
    path: RUN_PATH,
    who: 'person',
    tag: 'Runs',
    summary: 'One run',
    answers: [runAnswer],
    problems: ['NotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const run = await services.runs.get(caller, param(call, 'id'));
      return { status: 200, body: showRun(run), version: run.version };
    },
  }),
  operation({
    method: 'GET',
    path: `${RUN_PATH}/input`,
    who: 'person',
    tag: 'Runs',
    summary: 'What was asked for; of sealed inputs which key opens them',
    answers: [
      {
        status: 200,
        text: 'Job and inputs',
        schema: v.strictObject({
          job: jobSchema,
          inputs: jsonObject,
          sealedInputs: v.record(v.string(), v.strictObject({ kid: v.string() })),
        }),
      },
    ],
    problems: ['NotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { job, inputs, sealedInputs } = await services.runs.input(caller, param(call, 'id'));
      const shown = Object.entries(sealedInputs).map(([name, { kid }]) => [name, { kid }]);
      return { status: 200, body: { job, inputs, sealedInputs: Object.fromEntries(shown) } };
    },
  }),
  operation({
    method: 'GET',
    path: `${RUN_PATH}/outputs`,
    who: 'person',
    tag: 'Runs',
    summary: 'What the run gave back',
    answers: [
      {
        status: 200,
        text: 'Outputs; empty while there are none',
        schema: v.strictObject({
          outputs: jsonObject,
          sealedOutputs: v.record(v.string(), envelopeSchema),
        }),
      },
    ],
    problems: ['NotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { value } = await services.runs.get(caller, param(call, 'id'));
      if (value.output === undefined) {
        return { status: 200, body: { outputs: {}, sealedOutputs: {} } };
      }
      const body = outputParts(services.repository, value.output);
      return { status: 200, content: { type: 'application/json', body } };
    },
  }),
];

const CONTROL: readonly Operation[] = [
  operation({
    method: 'PATCH',
    path: RUN_PATH,
    who: 'person',
    tag: 'Runs',
    summary: 'Changes the priority of a run that waits',
    ifMatch: 'required',
    body: {
      kind: 'json',
      schema: v.strictObject({ priority: v.picklist(['high', 'normal']) }),
      bytesMax: BODY_BYTES_MAX,
    },
    answers: [runAnswer],
    problems: ['NotFound', 'RunStateConflict', ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { priority } = call.body;
      const id = param(call, 'id');
      const run = await services.control.setPriority(caller, id, call.ifMatch, priority);
      return { status: 200, body: showRun(run), version: run.version };
    },
  }),
  operation({
    method: 'POST',
    path: `${RUN_PATH}:cancel`,
    who: 'person',
    tag: 'Runs',
    summary: 'Ends a run, and the runs that it started',
    body: {
      kind: 'json',
      schema: v.strictObject({ mode: v.optional(v.picklist(['stop', 'kill']), 'stop') }),
      bytesMax: BODY_BYTES_MAX,
      isOptional: true,
    },
    answers: [NO_CONTENT],
    problems: ['NotFound', 'RunStateConflict', 'VersionConflict'],
    answer: (api, call) => cancel(api, call, call.body.mode),
  }),
  operation({
    method: 'POST',
    path: `${RUN_PATH}:safe-stop`,
    who: 'person',
    tag: 'Runs',
    summary: 'Asks a run to end where it can',
    body: EMPTY_BODY,
    answers: [NO_CONTENT],
    problems: ['NotFound', 'RunStateConflict', 'VersionConflict'],
    answer: (api, call) => cancel(api, call, 'safe-stop'),
  }),
  operation({
    method: 'POST',
    path: `${RUN_PATH}:move-to-top`,
    who: 'person',
    tag: 'Runs',
    summary: 'Puts a run that waits before all others',
    body: EMPTY_BODY,
    answers: [runAnswer],
    problems: ['NotFound', 'RunStateConflict', 'VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const run = await services.control.moveToTop(caller, param(call, 'id'));
      return { status: 200, body: showRun(run), version: run.version };
    },
  }),
  operation({
    method: 'POST',
    path: `${RUN_PATH}:undo-move`,
    who: 'person',
    tag: 'Runs',
    summary: 'Puts a run back to its old place',
    body: EMPTY_BODY,
    answers: [runAnswer],
    problems: ['NotFound', 'RunStateConflict', 'VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const run = await services.control.undoMove(caller, param(call, 'id'));
      return { status: 200, body: showRun(run), version: run.version };
    },
  }),
];

export const RUN_OPERATIONS: readonly Operation[] = [...ASKING, ...CONTROL];

async function cancel(
  api: ApiContext,
  call: Call<unknown, unknown>,
  mode: CancelMode,
): Promise<Answer> {
  const { caller, services } = await personIn(api, call);
  await services.control.cancel(caller, param(call, 'id'), mode);
  return { status: 204 };
}
