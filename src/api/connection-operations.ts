import * as v from 'valibot';
import { connectionTestSchema } from '../dispatch/connection-tests.ts';
import { connectionPatchSchema, newConnectionSchema } from '../dispatch/connections.ts';
import { refusePlaintext } from '../dispatch/plaintext.ts';
import { Problem } from '../dispatch/problem.ts';
import { idSchema, type Connection } from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type Answer, type AnswerSpec, type Operation } from './operation.ts';
import { SUBMIT_PROBLEMS } from './run-operations.ts';
import { param, personIn } from './scope.ts';
import { accessOperations, CHANGE_PROBLEMS, NO_CONTENT, pageEntries } from './shared-specs.ts';
import {
  connectionShownSchema,
  pageSchema,
  runShownSchema,
  showConnection,
  showRun,
} from './shown-records.ts';

const TAG = 'Connections';
const CONNECTIONS = '/environments/{env}/connections';
const CONNECTION = `${CONNECTIONS}/{id}`;
const connectionAnswer: AnswerSpec = {
  status: 200,
  text: 'The connection, without what is sealed',
  schema: connectionShownSchema,
  hasEtag: true,
};
const TARGETS = ['MachineNotFound', 'MachineGroupNotFound', 'KeyIdUnknown'] as const;

export const CONNECTION_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: CONNECTIONS,
    who: 'person',
    tag: TAG,
    summary: 'Connections; with targetKind and targetId those of one target',
    query: v.strictObject({
      ...pageEntries,
      targetKind: v.optional(v.picklist(['machine', 'group'])),
      targetId: v.optional(idSchema),
    }),
    answers: [
      { status: 200, text: 'A page of connections', schema: pageSchema(connectionShownSchema) },
    ],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { targetKind: kind, targetId: id, ...page } = call.query;
      if ((kind === undefined) !== (id === undefined)) {
        const path = kind === undefined ? 'query.targetKind' : 'query.targetId';
        const errors = [{ path, message: 'targetKind and targetId come together' }];
        throw new Problem('RequestMalformed', undefined, { errors });
      }
      const target = kind === undefined || id === undefined ? undefined : { kind, id };
      const { items, next } = await services.connections.list(caller, page, target);
      return { status: 200, body: { items: items.map(showConnection), next } };
    },
  }),
  operation({
    method: 'POST',
    path: CONNECTIONS,
    who: 'person',
    tag: TAG,
    summary: 'Makes a connection; its credentials are sealed before they are sent',
    isRepeatable: true,
    body: {
      kind: 'json',
      schema: newConnectionSchema,
      bytesMax: BODY_BYTES_MAX,
      refuse: refusePlaintext,
    },
    answers: [
      { ...connectionAnswer, status: 201, text: 'The new connection', hasLocation: true },
      { ...connectionAnswer, text: 'What the same request made before', hasLocation: true },
    ],
    problems: ['PlaintextCredentialRefused', 'VersionConflict', 'ConnectionNotFound', ...TARGETS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { connection, isRepeated } = await services.connections.create(
        caller,
        call.json,
        call.idempotencyKey,
      );
      const location = `/environments/${param(call, 'env')}/connections/${connection.id}`;
      return { ...shown(connection), status: isRepeated ? 200 : 201, location };
    },
  }),
  operation({
    method: 'GET',
    path: CONNECTION,
    who: 'person',
    tag: TAG,
    summary: 'One connection',
    answers: [connectionAnswer],
    problems: ['ConnectionNotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      return shown(await services.connections.get(caller, param(call, 'id')));
    },
  }),
  operation({
    method: 'PATCH',
    path: CONNECTION,
    who: 'person',
    tag: TAG,
    summary: 'Changes a connection; new credentials come with one credentialVersion more',
    ifMatch: 'required',
    body: {
      kind: 'json',
      schema: connectionPatchSchema,
      bytesMax: BODY_BYTES_MAX,
      refuse: refusePlaintext,
    },
    answers: [connectionAnswer],
    problems: ['PlaintextCredentialRefused', 'ConnectionNotFound', ...TARGETS, ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      return shown(await services.connections.patch(caller, id, call.ifMatch, call.json));
    },
  }),
  operation({
    method: 'DELETE',
    path: CONNECTION,
    who: 'person',
    tag: TAG,
    summary: 'Removes a connection and its ciphertext; what waits for it fails',
    ifMatch: 'required',
    answers: [NO_CONTENT],
    problems: ['ConnectionNotFound', ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      await services.connections.delete(caller, param(call, 'id'), call.ifMatch);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${CONNECTION}:test`,
    who: 'person',
    tag: TAG,
    summary: 'Tries whether the account can sign in: a run of kind probe, or one for every member',
    isRepeatable: true,
    body: {
      kind: 'json',
      schema: connectionTestSchema,
      bytesMax: BODY_BYTES_MAX,
      isOptional: true,
    },
    answers: [
      {
        status: 202,
        text: 'The run; with everyMember all of them as items',
        schema: v.union([runShownSchema, v.strictObject({ items: v.array(runShownSchema) })]),
      },
    ],
    problems: SUBMIT_PROBLEMS,
    async answer(api, call) {
      const { caller, environment, services } = await personIn(api, call);
      const submitted = await services.connectionTests.test(
        caller,
        environment.value,
        param(call, 'id'),
        { body: call.body, key: call.idempotencyKey },
      );
      const items = submitted.map(({ run }) => showRun(run));
      return { status: 202, body: call.body.everyMember ? { items } : items[0] };
    },
  }),
  ...accessOperations({
    path: CONNECTION,
    tag: TAG,
    answer: connectionAnswer,
    notFound: 'ConnectionNotFound',
    set: async (services, caller, { id, principal, grant }) =>
      shown(await services.connections.setAccess(caller, id, principal, grant)),
  }),
];

function shown(connection: Versioned<Connection>): Answer {
  return { status: 200, version: connection.version, body: showConnection(connection) };
}
