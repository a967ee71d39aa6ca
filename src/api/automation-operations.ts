import * as v from 'valibot';
import type { Caller } from '../dispatch/access.ts';
import {
  scheduleOutcomeSchema,
  scheduleSchema,
  triggerSchema,
  type Schedule,
  type ScheduleOutcome,
  type Trigger,
} from '../dispatch/automation-records.ts';
import type { EnvironmentServices } from '../dispatch/control-plane.ts';
import type { Page, PageQuery } from '../dispatch/paging.ts';
import type { Grant } from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import type { NewTrigger } from '../dispatch/triggers.ts';
import { INPUT_BYTES_MAX } from '../jobs/limits.ts';
import { operation, type Answer, type AnswerSpec, type Operation } from './operation.ts';
import {
  RUN_BODY_BYTES_MAX,
  scheduleBodySchema,
  schedulePatchBodySchema,
  triggerBodySchema,
  triggerPatchBodySchema,
} from './run-bodies.ts';
import { numberParameter } from './request-fields.ts';
import { runAnswer, SUBMIT_PROBLEMS } from './run-operations.ts';
import { param, personIn } from './scope.ts';
import {
  accessOperations,
  CHANGE_PROBLEMS,
  EMPTY_BODY,
  NO_CONTENT,
  pageQuery,
} from './shared-specs.ts';
import { momentText, shownEntries, shownRecord, type Shown } from './shown.ts';
import { pageSchema, showRun } from './shown-records.ts';

// What starts runs by itself: schedules, and requests of others that are signed.

const SCHEDULES = '/environments/{env}/schedules';
const TRIGGERS = '/environments/{env}/triggers';
const HISTORY_MAX = 100;
/** Some more than inputs may be, so that those get their own refusal. */
const HOOK_BYTES_MAX = INPUT_BYTES_MAX + 64 * 1024;

const SCHEDULE_SHOWN = shownRecord(scheduleSchema);
const TRIGGER_SHOWN = shownRecord(triggerSchema);
const secretSchema = v.pipe(v.string(), v.regex(/^whsec_[A-Za-z0-9+/]+=*$/));
const withSecret = v.strictObject({
  ...TRIGGER_SHOWN.entries,
  /** Told this once; absent when the request was repeated. */
  secret: v.optional(secretSchema),
});

interface Records<Value> {
  list(caller: Caller, query: PageQuery): Promise<Page<Value>>;
  get(caller: Caller, id: string): Promise<Versioned<Value>>;
  patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Value>>;
  delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void>;
  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Value>>;
}

/** What schedules and triggers have in common: all but how they are made. */
function recordOperations<Value>(of: {
  readonly path: string;
  readonly tag: string;
  readonly shown: Shown<Value>;
  readonly patch: v.GenericSchema;
  readonly records: (services: EnvironmentServices) => Records<Value>;
}): readonly Operation[] {
  const { tag, shown, records } = of;
  const path = `${of.path}/{id}`;
  const answer = answerSpec(shown);
  const answered = (record: Versioned<Value>): Answer => answerOf(shown, record);
  return [
    operation({
      method: 'GET',
      path: of.path,
      who: 'person',
      tag,
      summary: 'All of the environment',
      query: pageQuery,
      answers: [{ status: 200, text: 'A page', schema: pageSchema(shown.schema) }],
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        const { items, next } = await records(services).list(caller, call.query);
        return { status: 200, body: { items: items.map(one => shown.of(one)), next } };
      },
    }),
    operation({
      method: 'GET',
      path,
      who: 'person',
      tag,
      summary: 'One of them',
      answers: [answer],
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        return answered(await records(services).get(caller, param(call, 'id')));
      },
    }),
    operation({
      method: 'PATCH',
      path,
      who: 'person',
      tag,
      summary: 'Changes it; whoever changes what is run is the one whose rights count from then on',
      ifMatch: 'required',
      body: { kind: 'json', schema: of.patch, bytesMax: RUN_BODY_BYTES_MAX },
      answers: [answer],
      problems: [
        'ConnectionNotFound',
        'UnattendedUnsupportedWithOldConnection',
        ...CHANGE_PROBLEMS,
      ],
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        const id = param(call, 'id');
        return answered(await records(services).patch(caller, id, call.ifMatch, call.json));
      },
    }),
    operation({
      method: 'DELETE',
      path,
      who: 'person',
      tag,
      summary: 'Removes it; runs that it has started go on',
      ifMatch: 'required',
      answers: [NO_CONTENT],
      problems: CHANGE_PROBLEMS,
      async answer(api, call) {
        const { caller, services } = await personIn(api, call);
        await records(services).delete(caller, param(call, 'id'), call.ifMatch);
        return { status: 204 };
      },
    }),
    ...accessOperations({
      path,
      tag,
      answer,
      notFound: 'NotFound',
      set: async (services, caller, { id, principal, grant }) =>
        answered(await records(services).setAccess(caller, id, principal, grant)),
    }),
  ];
}

const SCHEDULE_OPERATIONS: readonly Operation[] = [
  ...recordOperations<Schedule>({
    path: SCHEDULES,
    tag: 'Schedules',
    shown: SCHEDULE_SHOWN,
    patch: schedulePatchBodySchema,
    records: ({ schedules }) => schedules,
  }),
  operation({
    method: 'POST',
    path: SCHEDULES,
    who: 'person',
    tag: 'Schedules',
    summary: 'Makes a schedule, by cron or everySeconds',
    isRepeatable: true,
    body: { kind: 'json', schema: scheduleBodySchema, bytesMax: RUN_BODY_BYTES_MAX },
    answers: [{ ...answerSpec(SCHEDULE_SHOWN), status: 201, hasLocation: true }],
    problems: [
      'ConnectionNotFound',
      'UnattendedUnsupportedWithOldConnection',
      'QuotaReached',
      'VersionConflict',
    ],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const made = await services.schedules.create(caller, call.json, call.idempotencyKey);
      const location = `/environments/${param(call, 'env')}/schedules/${made.id}`;
      return { ...answerOf(SCHEDULE_SHOWN, made), status: 201, location };
    },
  }),
  operation({
    method: 'GET',
    path: `${SCHEDULES}/{id}/history`,
    who: 'person',
    tag: 'Schedules',
    summary: 'What became of it each time, the oldest first',
    query: v.strictObject({
      after: v.optional(numberParameter(0, Number.MAX_SAFE_INTEGER)),
      limit: v.optional(numberParameter(1, HISTORY_MAX)),
    }),
    answers: [
      {
        status: 200,
        text: 'Entries behind `after`; give `next` as `after` to go on',
        schema: v.strictObject({
          items: v.array(historyItemSchema()),
          next: v.pipe(v.number(), v.safeInteger()),
        }),
      },
    ],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { after = 0, limit = HISTORY_MAX } = call.query;
      const id = param(call, 'id');
      const entries = await services.schedules.history(caller, id, { after, limit });
      const items = entries.map(historyItem);
      return { status: 200, body: { items, next: items.at(-1)?.number ?? after } };
    },
  }),
];

const TRIGGER_OPERATIONS: readonly Operation[] = [
  ...recordOperations<Trigger>({
    path: TRIGGERS,
    tag: 'Triggers',
    shown: TRIGGER_SHOWN,
    patch: triggerPatchBodySchema,
    records: ({ triggers }) => triggers,
  }),
  operation({
    method: 'POST',
    path: TRIGGERS,
    who: 'person',
    tag: 'Triggers',
    summary: 'Makes a trigger, whose secret is told this once',
    isRepeatable: true,
    body: { kind: 'json', schema: triggerBodySchema, bytesMax: RUN_BODY_BYTES_MAX },
    answers: [{ ...answerSpec(TRIGGER_SHOWN), status: 201, schema: withSecret, hasLocation: true }],
    problems: [
      'ConnectionNotFound',
      'UnattendedUnsupportedWithOldConnection',
      'QuotaReached',
      'VersionConflict',
    ],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const made = await services.triggers.create(caller, call.json, call.idempotencyKey);
      const location = `/environments/${param(call, 'env')}/triggers/${made.trigger.id}`;
      return { ...secretAnswer(made), status: 201, location };
    },
  }),
  operation({
    method: 'POST',
    path: `${TRIGGERS}/{id}:rotate-secret`,
    who: 'person',
    tag: 'Triggers',
    summary: 'A new secret; the one before is good for a day more',
    body: EMPTY_BODY,
    answers: [{ ...answerSpec(TRIGGER_SHOWN), schema: withSecret }],
    problems: ['VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      return secretAnswer(await services.triggers.rotateSecret(caller, param(call, 'id')));
    },
  }),
  operation({
    method: 'POST',
    path: '/hooks/{env}/{id}',
    who: 'nobody',
    tag: 'Triggers',
    summary: 'Starts a run, with the body as its input `payload`; signed as Standard Webhooks says',
    headers: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
    body: { kind: 'any', schema: v.instance(Uint8Array), bytesMax: HOOK_BYTES_MAX },
    answers: [
      { ...runAnswer, status: 202, text: 'The run, which waits now' },
      { ...runAnswer, text: 'The run that the same delivery started before' },
    ],
    problems: ['TokenInvalid', 'AccessDenied', 'TriggerThrottled', ...SUBMIT_PROBLEMS],
    async answer({ plane }, call) {
      const { headers } = call.request;
      const delivery = {
        headers: {
          id: headers.get('webhook-id'),
          timestamp: headers.get('webhook-timestamp'),
          signature: headers.get('webhook-signature'),
        },
        body: call.body,
      };
      const [env, id] = [param(call, 'env'), param(call, 'id')];
      const { run, isRepeated } = await plane.receive(env, id, delivery);
      return { status: isRepeated ? 200 : 202, version: run.version, body: showRun(run) };
    },
  }),
  operation({
    method: 'GET',
    path: '/environments/{env}/callback-key',
    who: 'person',
    tag: 'Runs',
    summary: 'What callbacks of the runs of the caller are signed with',
    answers: [
      { status: 200, text: 'The secret', schema: v.strictObject({ secret: secretSchema }) },
    ],
    problems: ['VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      return { status: 200, body: { secret: await services.callbackKeys.read(caller) } };
    },
  }),
];

export const AUTOMATION_OPERATIONS: readonly Operation[] = [
  ...SCHEDULE_OPERATIONS,
  ...TRIGGER_OPERATIONS,
];

function answerSpec({ schema }: Shown<never>): AnswerSpec {
  return { status: 200, text: 'The record', schema, hasEtag: true };
}

function answerOf<Value>(shown: Shown<Value>, record: Versioned<Value>): Answer {
  return { status: 200, version: record.version, body: shown.of(record) };
}

function secretAnswer({ trigger, secret }: NewTrigger): Answer {
  const { version } = trigger;
  return { status: 200, version, body: TRIGGER_SHOWN.of(trigger, { secret }) };
}

function historyItem({
  number,
  entry,
}: {
  readonly number: number;
  readonly entry: ScheduleOutcome;
}): { readonly number: number } & Record<string, unknown> {
  const { atMs, dueAtMs, ...rest } = entry;
  return { number, at: momentText(atMs), dueAt: momentText(dueAtMs), ...rest };
}

function historyItemSchema(): v.GenericSchema {
  const number = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
  return v.strictObject({ number, ...shownEntries(scheduleOutcomeSchema) });
}
