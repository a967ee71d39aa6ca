import * as v from 'valibot';
import { requireAdmin } from '../dispatch/access.ts';
import {
  encryptionKeySchema,
  identityKeySchema,
  machinePromotionSchema,
} from '../dispatch/machine-keys.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { GROUP_KEY_OPERATIONS } from './group-key-operations.ts';
import { operation, type AnswerSpec, type Operation } from './operation.ts';
import { machineIn, param, personIn, principalOf } from './scope.ts';
import { EMPTY_BODY, NO_CONTENT } from './shared-specs.ts';
import { jwkShownSchema, machineShownSchema, showMachine } from './shown-records.ts';

// How keys are replaced: those of groups, those of machines, and the one that signs what is sent to machines.

const TAG = 'Keys';
const MACHINE = '/environments/{env}/machines/{id}';
const AGENT = '/environments/{env}/agent';

const jwksAnswer: AnswerSpec = {
  status: 200,
  text: 'The keys; the one that signs now is the first',
  schema: v.strictObject({ items: v.array(jwkShownSchema) }),
};

const machineAnswer: AnswerSpec = {
  status: 200,
  text: 'The machine',
  schema: machineShownSchema,
  hasEtag: true,
};
const OF_MACHINE = ['MachineNotFound', 'TokenInvalid', 'VersionConflict'] as const;

const MACHINE_KEYS: readonly Operation[] = [
  operation({
    method: 'PUT',
    path: `${AGENT}/encryption-key`,
    who: 'machine',
    tag: TAG,
    summary: 'A new encryption key, which replaces the present one when nothing is sealed to that',
    body: { kind: 'json', schema: encryptionKeySchema, bytesMax: BODY_BYTES_MAX },
    answers: [NO_CONTENT],
    problems: [...OF_MACHINE, 'KeyInUse'],
    async answer(api, call) {
      const { machineId, services } = machineIn(api, call);
      await services.machineKeys.putEncryptionKey(machineId, call.json);
      return { status: 204 };
    },
  }),
  operation({
    method: 'PUT',
    path: `${AGENT}/identity-key`,
    who: 'machine',
    tag: TAG,
    summary: 'A new identity key, signed by the present one and by itself',
    body: { kind: 'json', schema: identityKeySchema, bytesMax: BODY_BYTES_MAX },
    answers: [NO_CONTENT],
    problems: OF_MACHINE,
    async answer(api, call) {
      const { machineId, services } = machineIn(api, call);
      await services.machineKeys.putIdentityKey(machineId, call.json);
      return { status: 204 };
    },
  }),
  operation({
    method: 'POST',
    path: `${MACHINE}:promote-key`,
    who: 'person',
    tag: TAG,
    summary: 'Makes the new encryption key of the machine the present one',
    body: {
      kind: 'json',
      schema: machinePromotionSchema,
      bytesMax: BODY_BYTES_MAX,
      isOptional: true,
    },
    answers: [machineAnswer],
    problems: ['MachineNotFound', 'NotFound', 'KeyInUse', 'VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const id = param(call, 'id');
      await services.machineKeys.promote(caller, id, call.json);
      const view = await services.machines.get(caller, id);
      return { status: 200, version: view.machine.version, body: showMachine(view) };
    },
  }),
];

const DISPATCH_KEYS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: '/dispatch-keys',
    who: 'nobody',
    tag: TAG,
    summary:
      'What offers and commands are signed with, now and next, and what they were signed with',
    answers: [jwksAnswer],
    problems: ['VersionConflict'],
    answer: async ({ plane }) => ({ status: 200, body: { items: await plane.keys.published() } }),
  }),
  operation({
    method: 'POST',
    path: '/dispatch-keys:rotate',
    who: 'person',
    tag: TAG,
    summary: 'Makes the next key, which signs from a day later on',
    body: EMPTY_BODY,
    answers: [jwksAnswer],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      requireAdmin(principalOf(call));
      await plane.keys.rotate();
      return { status: 200, body: { items: await plane.keys.published() } };
    },
  }),
];

export const KEY_OPERATIONS: readonly Operation[] = [
  ...GROUP_KEY_OPERATIONS,
  ...MACHINE_KEYS,
  ...DISPATCH_KEYS,
];
