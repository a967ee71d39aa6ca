import * as v from 'valibot';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { groupPromotionSchema, type RotationView } from '../dispatch/group-rotation.ts';
import { Problem } from '../dispatch/problem.ts';
import { groupPackageSchema, idSchema, principalSchema } from '../dispatch/records.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { keyPackageBodySchema } from './group-operations.ts';
import { operation, type Answer, type AnswerSpec, type Operation } from './operation.ts';
import { groupActorIn, param, personIn, type PersonScope } from './scope.ts';
import { CHANGE_PROBLEMS, EMPTY_BODY, NO_CONTENT } from './shared-specs.ts';
import { momentText, momentTextSchema } from './shown.ts';
import { groupShownSchema, keyShownSchema, showGroup } from './shown-records.ts';

const TAG = 'Keys';
const GROUP = '/environments/{env}/groups/{id}';
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const groupAnswer: AnswerSpec = {
  status: 200,
  text: 'The group',
  schema: groupShownSchema,
  hasEtag: true,
};
const packageAnswer: AnswerSpec = {
  status: 200,
  text: 'The package; its ETag is its generation',
  schema: groupPackageSchema,
  hasEtag: true,
};
const rotationSchema = v.strictObject({
  startedAt: momentTextSchema,
  startedBy: principalSchema,
  secondary: v.optional(keyShownSchema),
  members: v.array(v.strictObject({ machineId: idSchema, hasSecondary: v.boolean() })),
  connections: v.strictObject({ left: count, ofOwners: v.array(idSchema) }),
});
const GONE = ['MachineGroupNotFound', 'NotFound', 'VersionConflict'] as const;
/** What a member says that seals anew, or what is said of one that cannot be asked. */
const UNASKED = [
  'NoListenerConnected',
  'ConnectionNotEstablished',
  'ConnectionTimeout',
  'DnsError',
  'EndpointDoNotExist',
  'DesktopFlowMalformedMachineResponse',
  'JobSchemaTooNew',
  'KeyIdUnknown',
] as const;

/** How the key of a group is replaced: asked for, made by a member, proved, sealed to, promoted. */
export const GROUP_KEY_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'POST',
    path: `${GROUP}:rotate-key`,
    who: 'person',
    tag: TAG,
    summary: 'Asks the members for a new key of the group; one of them makes it, with the password',
    body: EMPTY_BODY,
    answers: [groupAnswer],
    problems: GONE,
    async answer(api, call) {
      const scope = await personIn(api, call);
      await scope.services.rotation.start(scope.caller, param(call, 'id'));
      return shownGroup(scope, param(call, 'id'));
    },
  }),
  operation({
    method: 'POST',
    path: `${GROUP}:cancel-rotation`,
    who: 'person',
    tag: TAG,
    summary: 'Gives a rotation up, while nothing is sealed to the next key',
    body: EMPTY_BODY,
    answers: [groupAnswer],
    problems: [...GONE, 'KeyInUse'],
    async answer(api, call) {
      const scope = await personIn(api, call);
      await scope.services.rotation.cancel(scope.caller, param(call, 'id'));
      return shownGroup(scope, param(call, 'id'));
    },
  }),
  operation({
    method: 'GET',
    path: `${GROUP}/key-rotation`,
    who: 'person',
    tag: TAG,
    summary: 'How far the rotation of the group’s key is; 404 when none is under way',
    answers: [{ status: 200, text: 'The rotation', schema: rotationSchema }],
    problems: GONE,
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const view = await services.rotation.view(caller, param(call, 'id'));
      if (view === undefined) throw new Problem('NotFound', 'no rotation is under way');
      return { status: 200, body: showRotation(view) };
    },
  }),
  operation({
    method: 'GET',
    path: `${GROUP}/key-package/secondary`,
    who: 'either',
    tag: TAG,
    summary:
      'The next private key under the password of the group; each look is audited and counted',
    answers: [packageAnswer],
    problems: [...GONE, 'QuotaReached'],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const body = await services.membership.keyPackage(actor, param(call, 'id'), 'secondary');
      return { status: 200, version: body.generation, body };
    },
  }),
  operation({
    method: 'PUT',
    path: `${GROUP}/key-package/secondary`,
    who: 'either',
    tag: TAG,
    summary: 'The next key of the group; If-Match is the generation of the present package',
    ifMatch: 'required',
    body: { kind: 'json', schema: keyPackageBodySchema, bytesMax: BODY_BYTES_MAX },
    answers: [NO_CONTENT],
    problems: [...GONE, ...CHANGE_PROBLEMS],
    async answer(api, call) {
      const { actor, services } = await groupActorIn(api, call);
      const id = param(call, 'id');
      await services.rotation.putSecondary(actor, id, call.ifMatch, call.json);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${GROUP}:reseal`,
    who: 'person',
    tag: TAG,
    summary: 'Has a member that has both keys seal credentials anew whose owners allow it',
    body: EMPTY_BODY,
    answers: [
      {
        status: 200,
        text: 'How many were sealed anew, and which were not',
        schema: v.strictObject({
          resealed: count,
          refused: v.array(v.strictObject({ connectionId: v.string(), code: v.string() })),
        }),
      },
    ],
    // And whatever code the member refuses it with.
    problems: [...GONE, ...UNASKED],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const body = await services.rotation.reseal(caller, param(call, 'id'));
      return { status: 200, body };
    },
  }),
  operation({
    method: 'POST',
    path: `${GROUP}:promote-secondary`,
    who: 'person',
    tag: TAG,
    summary: 'Makes the next key the present one',
    body: {
      kind: 'json',
      schema: groupPromotionSchema,
      bytesMax: BODY_BYTES_MAX,
      isOptional: true,
    },
    answers: [groupAnswer],
    problems: [...GONE, 'KeyInUse', 'MachineRequiresGroupKey'],
    async answer(api, call) {
      const scope = await personIn(api, call);
      await scope.services.rotation.promote(scope.caller, param(call, 'id'), call.json);
      return shownGroup(scope, param(call, 'id'));
    },
  }),
];

async function shownGroup({ caller, services }: PersonScope, id: string): Promise<Answer> {
  const view = await services.groups.get(caller, id);
  return { status: 200, version: view.group.version, body: showGroup(view) };
}

function showRotation({ startedAtMs, secondary, ...rest }: RotationView): object {
  const fingerprint = secondary === undefined ? '' : fingerprintOf(secondary.kid);
  return {
    startedAt: momentText(startedAtMs),
    ...rest,
    ...(secondary === undefined ? {} : { secondary: { ...secondary, fingerprint } }),
  };
}
