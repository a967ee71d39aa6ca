import * as v from 'valibot';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { groupPatchSchema, newGroupSchema, type GroupView } from '../dispatch/groups.ts';
import { Problem } from '../dispatch/problem.ts';
import { groupPackageSchema, idSchema } from '../dispatch/records.ts';
import { envelopeSchema } from '../jobs/messages.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type Answer, type AnswerSpec, type Operation } from './operation.ts';
import { groupActorIn, param, personIn, viewerIn } from './scope.ts';
import { accessOperations, CHANGE_PROBLEMS, NO_CONTENT, pageQuery } from './shared-specs.ts';
import {
  groupShownSchema,
  keyShownSchema,
  pageSchema,
  runShownSchema,
  showGroup,
  showRun,
} from './shown-records.ts';

const TAG = 'Groups';
const GROUPS = '/environments/{env}/groups';
const GROUP = `${GROUPS}/{id}`;
const groupAnswer: AnswerSpec = {
  status: 200,
  text: 'The group',
  schema: groupShownSchema,
  hasEtag: true,
};
const memberSchema = v.strictObject({
  machineId: idSchema,
  /** `secondary`: the next key, of a machine that is in the group. */
  key: v.optional(v.picklist(['primary', 'secondary']), 'primary'),
});
const joinSchema = v.strictObject({
  challengeId: idSchema,
  answer: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/)),
  signature: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{86}$/)),
});
export const keyPackageBodySchema = v.strictObject({
  /** The public key, an uncompressed point. */
  point: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{87}$/)),
  package: groupPackageSchema,
});
const GONE = ['MachineGroupNotFound'] as const;

const RECORDS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: GROUPS,
    who: 'person',
    tag: TAG,
    summary: 'Machine groups',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of groups', schema: pageSchema(groupShownSchema) }],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { items, next } = await services.groups.list(caller, call.query);
      return { status: 200, body: { items: items.map(showGroup), next } };
    },
  }),
  operation({
    method: 'POST',
    path: GROUPS,
    who: 'person',
    tag: TAG,
    summary: 'Makes a group, which has no key until its first machine joins',
    isRepeatable: true,
    body: { kind: 'json', schema: newGroupSchema, bytesMax: BODY_BYTES_MAX },
    answers: [{ ...groupAnswer, status: 201, text: 'The group', hasLocation: true }],
    problems: ['VersionConflict', ...GONE],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { id } = await services.groups.create(caller, call.json, call.idempotencyKey);
      const location = `/environments/${param(call, 'env')}/groups/${id}`;
      return { ...shown(await services.groups.get(caller, id)), status: 201, location };
    },
  }),
  operation({
    method: 'GET',
    path: GROUP,
    who: 'either',
    tag: TAG,
    summary: 'One group, with its members',
    answers: [groupAnswer],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await viewerIn(api, call);
      return shown(await services.groups.get(caller, param(call, 'id')));
    },
  }),
  operation({
    method: 'PATCH',
    path: GROUP,
    who: 'person',
    tag: TAG,
    summary: 'Changes name, description, settings and maintenance',
    ifMatch: 'required',
    body: { kind: 'json', schema: groupPatchSchema, bytesMax: BODY_BYTES_MAX },
    answers: [groupAnswer],
    problems: [...GONE, ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.groups.patch(caller, id, call.ifMatch, call.json);
      return shown(await services.groups.get(caller, id));
    },
  }),
  operation({
    method: 'DELETE',
    path: GROUP,
    who: 'person',
    tag: TAG,
    summary: 'Removes a group and its key package; its machines stay',
    ifMatch: 'required',
    answers: [NO_CONTENT],
    problems: [...GONE, ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      await services.groups.delete(caller, param(call, 'id'), call.ifMatch);
      return { status: 204 };
    },
  }),
  ...accessOperations({
    path: GROUP,
    tag: TAG,
    answer: groupAnswer,
    notFound: 'MachineGroupNotFound',
    async set(services, caller, { id, principal, grant }) {
      await services.groups.setAccess(caller, id, principal, grant);
      return shown(await services.groups.get(caller, id));
    },
  }),
  operation({
    method: 'GET',
    path: `${GROUP}/queue`,
    who: 'person',
    tag: TAG,
    summary: 'Runs that wait for this group, the next one first',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of runs', schema: pageSchema(runShownSchema) }],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.groups.get(caller, id);
      const target = { kind: 'group', id } as const;
      const { items, next } = await services.runs.queue(caller, target, call.query);
      return { status: 200, body: { items: items.map(showRun), next } };
    },
  }),
];

const KEYS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: `${GROUP}/public-key`,
    who: 'either',
    tag: TAG,
    summary: 'The key that credentials for this group are sealed to',
    answers: [{ status: 200, text: 'The key', schema: keyShownSchema }],
    problems: [...GONE, 'NotFound'],
    async answer(api, call) {
      const { caller, services } = await viewerIn(api, call);
      const { group } = await services.groups.get(caller, param(call, 'id'));
      const { key } = group.value;
      if (key === undefined) throw new Problem('NotFound', 'the group has no key yet');
      const { generation } = key.package;
      const fingerprint = fingerprintOf(key.publicKey.kid);
      return { status: 200, body: { ...key.publicKey, fingerprint, generation } };
    },
  }),
  operation({
    method: 'GET',
    path: `${GROUP}/key-package`,
    who: 'either',
    tag: TAG,
    summary: 'The private key under the password of the group; each look is audited and counted',
    answers: [
      {
        status: 200,
        text: 'The package; its ETag is its generation',
        schema: groupPackageSchema,
        hasEtag: true,
      },
    ],
    problems: [...GONE, 'NotFound', 'QuotaReached', 'VersionConflict'],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const body = await services.membership.keyPackage(actor, param(call, 'id'));
      return { status: 200, version: body.generation, body };
    },
  }),
  operation({
    method: 'PUT',
    path: `${GROUP}/key-package`,
    who: 'either',
    tag: TAG,
    summary: 'The first key of a group, or its key under another password',
    ifMatch: 'required',
    body: { kind: 'json', schema: keyPackageBodySchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      {
        status: 200,
        text: 'The package; its ETag is its generation',
        schema: groupPackageSchema,
        hasEtag: true,
      },
    ],
    problems: [...GONE, ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const id = param(call, 'id');
      const { value } = await services.membership.putKeyPackage(actor, id, call.ifMatch, call.json);
      const body = value.key?.package ?? call.body.package;
      return { status: 200, version: body.generation, body };
    },
  }),
];

const MEMBERS: readonly Operation[] = [
  operation({
    method: 'POST',
    path: `${GROUP}/members`,
    who: 'either',
    tag: TAG,
    summary: 'Begins to join, or to prove the next key: gives what only who has that key can open',
    body: { kind: 'json', schema: memberSchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      {
        status: 201,
        text: 'What is to be opened',
        schema: v.strictObject({ challengeId: v.string(), sealed: envelopeSchema }),
      },
    ],
    problems: [...GONE, 'MachineNotFound', 'NotFound', 'VersionConflict'],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const { machineId, key } = call.body;
      const body = await services.membership.challenge(actor, param(call, 'id'), machineId, key);
      return { status: 201, body };
    },
  }),
  operation({
    method: 'PUT',
    path: `${GROUP}/members/{machineId}/proof`,
    who: 'either',
    tag: TAG,
    summary: 'Joins: what was sealed, signed by the machine',
    body: { kind: 'json', schema: joinSchema, bytesMax: BODY_BYTES_MAX },
    answers: [NO_CONTENT],
    problems: [...GONE, 'MachineNotFound', 'QuotaReached', 'TokenInvalid', 'VersionConflict'],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const [id, machineId] = [param(call, 'id'), param(call, 'machineId')];
      await services.membership.join(actor, id, machineId, call.json);
      return { status: 204 };
    },
  }),
  operation({
    method: 'DELETE',
    path: `${GROUP}/members/{machineId}`,
    who: 'either',
    tag: TAG,
    summary: 'Leaves the group; a rotation of its key is recommended',
    answers: [NO_CONTENT],
    problems: [...GONE, 'NotFound', 'VersionConflict'],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      await services.membership.leave(actor, param(call, 'id'), param(call, 'machineId'));
      return { status: 204 };
    },
  }),
];

export const GROUP_OPERATIONS: readonly Operation[] = [...RECORDS, ...KEYS, ...MEMBERS];

function shown(view: GroupView): Answer {
  return { status: 200, version: view.group.version, body: showGroup(view) };
}
