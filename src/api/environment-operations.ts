import * as v from 'valibot';
import { environmentPatchSchema, newEnvironmentSchema } from '../dispatch/environments.ts';
import { roleSchema, type Environment } from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type Answer, type AnswerSpec, type Operation } from './operation.ts';
import { param, principalOf } from './scope.ts';
import { CHANGE_PROBLEMS, NO_CONTENT, pageQuery } from './shared-specs.ts';
import { ENVIRONMENT_SHOWN, pageSchema } from './shown-records.ts';

const TAG = 'Environments';
const PATH = '/environments/{env}';
const environmentAnswer: AnswerSpec = {
  status: 200,
  text: 'The environment',
  schema: ENVIRONMENT_SHOWN.schema,
  hasEtag: true,
};

export const ENVIRONMENT_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: '/environments',
    who: 'person',
    tag: TAG,
    summary: 'Environments that the caller has a role in',
    query: pageQuery,
    answers: [
      {
        status: 200,
        text: 'A page of environments',
        schema: pageSchema(ENVIRONMENT_SHOWN.schema),
      },
    ],
    async answer({ plane }, call) {
      const { items, next } = await plane.environments.list(principalOf(call), call.query);
      return { status: 200, body: { items: items.map(one => ENVIRONMENT_SHOWN.of(one)), next } };
    },
  }),
  operation({
    method: 'POST',
    path: '/environments',
    who: 'person',
    tag: TAG,
    summary: 'Makes an environment; for administrators',
    body: { kind: 'json', schema: newEnvironmentSchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      { ...environmentAnswer, status: 201, text: 'The new environment', hasLocation: true },
    ],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      const value = await plane.environments.create(principalOf(call), call.json);
      const { id } = value;
      return { ...shown({ id, version: 1, value }), status: 201, location: `/environments/${id}` };
    },
  }),
  operation({
    method: 'GET',
    path: PATH,
    who: 'person',
    tag: TAG,
    summary: 'One environment, with the roles in it',
    answers: [environmentAnswer],
    async answer({ plane }, call) {
      const entered = await plane.environments.enter(principalOf(call), param(call, 'env'));
      return shown(entered.environment);
    },
  }),
  operation({
    method: 'PATCH',
    path: PATH,
    who: 'person',
    tag: TAG,
    summary: 'Changes an environment; for its owners',
    ifMatch: 'required',
    body: { kind: 'json', schema: environmentPatchSchema, bytesMax: BODY_BYTES_MAX },
    answers: [environmentAnswer],
    problems: CHANGE_PROBLEMS,
    async answer({ plane }, call) {
      const env = param(call, 'env');
      return shown(await plane.environments.patch(principalOf(call), env, call.ifMatch, call.json));
    },
  }),
  operation({
    method: 'PUT',
    path: `${PATH}/roles/{principal}`,
    who: 'person',
    tag: TAG,
    summary: 'Gives a principal a role',
    body: { kind: 'json', schema: v.strictObject({ role: roleSchema }), bytesMax: BODY_BYTES_MAX },
    answers: [environmentAnswer],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      const [env, whose] = [param(call, 'env'), param(call, 'principal')];
      const { role } = call.body;
      return shown(await plane.environments.setRole(principalOf(call), env, whose, role));
    },
  }),
  operation({
    method: 'DELETE',
    path: `${PATH}/roles/{principal}`,
    who: 'person',
    tag: TAG,
    summary: 'Takes the role of a principal away',
    answers: [NO_CONTENT],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      const [env, whose] = [param(call, 'env'), param(call, 'principal')];
      await plane.environments.setRole(principalOf(call), env, whose, undefined);
      return { status: 204 };
    },
  }),
];

function shown(environment: Versioned<Environment>): Answer {
  const { version } = environment;
  return { status: 200, version, body: ENVIRONMENT_SHOWN.of(environment) };
}
