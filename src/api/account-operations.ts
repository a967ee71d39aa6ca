import * as v from 'valibot';
import { newCodeSchema } from '../dispatch/activation-codes.ts';
import { newTokenSchema } from '../dispatch/api-tokens.ts';
import { requireVersion } from '../dispatch/checks.ts';
import { newUserSchema } from '../dispatch/environments.ts';
import { Problem } from '../dispatch/problem.ts';
import { USER } from '../dispatch/records.ts';
import type { Versioned } from '../dispatch/repository.ts';
import { BODY_BYTES_MAX } from './bodies.ts';
import { operation, type Operation } from './operation.ts';
import { param, personIn, principalOf } from './scope.ts';
import { NO_CONTENT, pageQuery } from './shared-specs.ts';
import { CODE_SHOWN, pageSchema, TOKEN_SHOWN, USER_SHOWN } from './shown-records.ts';

// Who may come in: users, their tokens, and the codes by which machines do.

const CODES = '/environments/{env}/activation-codes';

const USERS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: '/users',
    who: 'person',
    tag: 'Users',
    summary: 'All users; for administrators',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of users', schema: pageSchema(USER_SHOWN.schema) }],
    async answer({ plane }, call) {
      const { items, next } = await plane.environments.listUsers(principalOf(call), call.query);
      return { status: 200, body: { items: items.map(one => USER_SHOWN.of(one)), next } };
    },
  }),
  operation({
    method: 'POST',
    path: '/users',
    who: 'person',
    tag: 'Users',
    summary: 'Makes a user; for administrators',
    body: { kind: 'json', schema: newUserSchema, bytesMax: BODY_BYTES_MAX },
    answers: [{ status: 201, text: 'The new user', schema: USER_SHOWN.schema, hasEtag: true }],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      const value = await plane.environments.createUser(principalOf(call), call.json);
      const user = { id: value.id, version: 1, value };
      return { status: 201, version: 1, body: USER_SHOWN.of(user) };
    },
  }),
  operation({
    method: 'PATCH',
    path: '/users/{id}',
    who: 'person',
    tag: 'Users',
    summary: 'Locks a user out, or lets it in again; for administrators',
    ifMatch: 'optional',
    body: {
      kind: 'json',
      schema: v.strictObject({ isDisabled: v.boolean() }),
      bytesMax: BODY_BYTES_MAX,
    },
    answers: [{ status: 200, text: 'The user', schema: USER_SHOWN.schema, hasEtag: true }],
    problems: ['VersionConflict'],
    async answer({ plane, common }, call) {
      const caller = principalOf(call);
      if (!caller.isAdmin) throw new Problem('AccessDenied', 'this takes an administrator');
      const id = param(call, 'id');
      const before = await common.get(USER, id);
      if (before === undefined) throw new Problem('NotFound');
      if (call.ifMatch !== undefined) requireVersion(before, call.ifMatch);
      await plane.environments.setUserDisabled(caller, id, call.body.isDisabled);
      const user = await common.get(USER, id);
      if (user === undefined) throw new Problem('NotFound');
      return { status: 200, version: user.version, body: USER_SHOWN.of(user) };
    },
  }),
];

const TOKENS: readonly Operation[] = [
  operation({
    method: 'GET',
    path: '/tokens',
    who: 'person',
    tag: 'Tokens',
    summary: 'API tokens: all for administrators, their own for others',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of tokens', schema: pageSchema(TOKEN_SHOWN.schema) }],
    async answer({ plane }, call) {
      const { items, next } = await plane.tokens.list(principalOf(call), call.query);
      return { status: 200, body: { items: items.map(one => TOKEN_SHOWN.of(one)), next } };
    },
  }),
  operation({
    method: 'POST',
    path: '/tokens',
    who: 'person',
    tag: 'Tokens',
    summary: 'Makes an API token, whose text is told this once',
    body: { kind: 'json', schema: newTokenSchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      {
        status: 201,
        text: 'The new token',
        schema: v.strictObject({ ...TOKEN_SHOWN.entries, token: v.string() }),
      },
    ],
    problems: ['NotFound'],
    async answer({ plane }, call) {
      const { text, token } = await plane.tokens.create(principalOf(call), call.json);
      const body = TOKEN_SHOWN.of(fresh(token), { token: text });
      return { status: 201, body };
    },
  }),
  operation({
    method: 'DELETE',
    path: '/tokens/{id}',
    who: 'person',
    tag: 'Tokens',
    summary: 'Makes a token worth nothing from the next request on',
    answers: [NO_CONTENT],
    problems: ['VersionConflict'],
    async answer({ plane }, call) {
      await plane.tokens.delete(principalOf(call), param(call, 'id'));
      return { status: 204 };
    },
  }),
];

const ACTIVATION: readonly Operation[] = [
  operation({
    method: 'GET',
    path: CODES,
    who: 'person',
    tag: 'Activation codes',
    summary: 'Activation codes: all for owners, their own for others',
    query: pageQuery,
    answers: [{ status: 200, text: 'A page of codes', schema: pageSchema(CODE_SHOWN.schema) }],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { items, next } = await services.codes.list(caller, call.query);
      return { status: 200, body: { items: items.map(one => CODE_SHOWN.of(one)), next } };
    },
  }),
  operation({
    method: 'POST',
    path: CODES,
    who: 'person',
    tag: 'Activation codes',
    summary: 'Makes a code by which machines register, whose text is told this once',
    body: { kind: 'json', schema: newCodeSchema, bytesMax: BODY_BYTES_MAX },
    answers: [
      {
        status: 201,
        text: 'The new code',
        schema: v.strictObject({ ...CODE_SHOWN.entries, code: v.string() }),
      },
    ],
    problems: ['MachineGroupNotFound'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      const { text, code } = await services.codes.create(caller, call.json);
      return { status: 201, body: CODE_SHOWN.of(fresh(code), { code: text }) };
    },
  }),
  operation({
    method: 'DELETE',
    path: `${CODES}/{id}`,
    who: 'person',
    tag: 'Activation codes',
    summary: 'Makes a code worth nothing',
    answers: [NO_CONTENT],
    problems: ['VersionConflict'],
    async answer(api, call) {
      const { caller, services } = await personIn(api, call);
      await services.codes.delete(caller, param(call, 'id'));
      return { status: 204 };
    },
  }),
];

export const ACCOUNT_OPERATIONS: readonly Operation[] = [...USERS, ...TOKENS, ...ACTIVATION];

/** A record that was made just now. */
function fresh<Value extends { readonly id: string }>(value: Value): Versioned<Value> {
  return { id: value.id, version: 1, value };
}
