import { Validator } from '@seriousme/openapi-schema-validator';
import { beforeAll, expect, test } from 'vitest';
import { jsonSchemaOf } from '../../src/api/openapi.ts';
import { OPERATIONS } from '../../src/api/operations.ts';
import {
  addMachine,
  apiBench,
  fields,
  send,
  type ApiBench,
  type RegisteredMachine,
} from './api-bench.ts';
import { DOCUMENT } from './documented.ts';

test('the document is valid OpenAPI 3.1', async () => {
  const copy: Record<string, unknown> = fieldsOf(JSON.parse(JSON.stringify(DOCUMENT)));
  const { valid, errors } = await new Validator().validate(copy);
  expect(errors).toBeUndefined();
  expect(valid).toBe(true);
});

test('every operation has a name of its own', () => {
  const text = JSON.stringify(DOCUMENT);
  const names = [...text.matchAll(/"operationId":"(\w+)"/g)].map(([, name]) => name);
  expect(names.length).toBeGreaterThanOrEqual(OPERATIONS.length);
  expect(new Set(names).size).toBe(names.length);
});

test('the document is served to everybody', async () => {
  const { api } = await apiBench();
  const got = await send(api, 'GET', '/$api/v1/openapi.json');
  expect(got.json).toEqual(JSON.parse(JSON.stringify(DOCUMENT)));
});

test('no answer has a place for a secret but where it is told', () => {
  const told = operationsWith(
    /"(?:secret|formerSecret|sha256|token|wrapped|ct|privateKey)":\{"type"/,
  );
  expect(told).toEqual([
    'POST /tokens',
    'GET /environments/{env}/groups/{id}/key-package',
    'PUT /environments/{env}/groups/{id}/key-package',
    'POST /environments/{env}/groups/{id}/members',
    'GET /environments/{env}/groups/{id}/key-package/secondary',
    // The digest of an asset, and outputs that are sealed to whoever asked.
    'GET /environments/{env}/runs/{id}/input',
    'GET /environments/{env}/runs/{id}/outputs',
    'POST /environments/{env}/triggers',
    'POST /environments/{env}/triggers/{id}:rotate-secret',
    'GET /environments/{env}/callback-key',
  ]);
});

/** Operations whose good answers have a member of such a name. */
function operationsWith(name: RegExp): readonly string[] {
  return OPERATIONS.filter(({ answers }) =>
    answers.some(({ schema }) => schema !== undefined && name.test(expanded(jsonSchemaOf(schema)))),
  ).map(({ method, path }) => `${method} ${path}`);
}

/** As text, with what it refers to. */
function expanded(schema: object): string {
  const schemas = fields(fields(DOCUMENT['components'])['schemas']);
  return JSON.stringify(schema).replaceAll(
    /\{"\$ref":"#\/components\/schemas\/(\w+)"\}/g,
    (_reference, name: string) => expanded(fields(schemas[name])),
  );
}

/** A path with something in each place, for an environment that is there. */
function pathOf(pattern: string): string {
  const filled = pattern
    .replace('{env}', 'dev')
    .replace('{principal}', 'user:ann')
    .replace('{attempt}', '1')
    .replaceAll(/\{\w+\}/g, 'nothing');
  return `/$api/v1${filled}`;
}

const CASES = OPERATIONS.map(operation => ({
  name: `${operation.method} ${operation.path}`,
  operation,
  method: operation.method === 'ANY' ? 'POST' : operation.method,
}));

let bench: ApiBench;
let machine: RegisteredMachine;

beforeAll(async () => {
  bench = await apiBench();
  machine = await addMachine(bench);
});

function tokenFor(who: string): string | undefined {
  if (who === 'nobody') return undefined;
  return who === 'machine' ? machine.token : bench.token;
}

test.each(CASES)('$name says no to bad requests as documented', async ({ operation, method }) => {
  const path = pathOf(operation.path);
  const token = tokenFor(operation.who);
  const { call } = bench;
  const needsToken = operation.who !== 'nobody' && operation.who !== 'anyone';
  if (needsToken) {
    expect(await call(method, path, { token: undefined })).toMatchObject({
      status: 401,
      headers: { 'WWW-Authenticate': 'Bearer' },
    });
    expect((await call(method, path, { token: 'hwt_wrong' })).status).toBe(401);
    expect((await call(method, path, { token: 'hwm_wrong' })).status).toBe(401);
  }
  if (operation.who === 'person') {
    expect((await call(method, path, { token: machine.token })).status).toBe(403);
  }
  if (operation.who === 'machine') expect((await call(method, path)).status).toBe(403);
  const strange = await call(method, `${path}?strange=1&other=2`, { token });
  expect(strange).toMatchObject({ status: 400, json: { code: 'RequestMalformed' } });
  expect(JSON.stringify(fields(strange.json)['errors'])).toMatch(/query\.strange.*query\.other/);
  const body = operation.body?.kind;
  if (body === undefined) {
    expect((await call(method, path, { token, body: { a: 1 } })).status).toBe(400);
  }
  if (body === 'json') {
    const json = { 'content-type': 'application/json' };
    const garbage = { token, body: '{"p":"hush",', headers: json };
    const broken = await call(method, path, garbage);
    expect(broken).toMatchObject({ status: 400, json: { code: 'RequestMalformed' } });
    expect(broken.text).not.toContain('hush');
    expect((await call(method, path, { token, body: 'a=b' })).status).toBe(415);
    const zipped = { ...json, 'content-encoding': 'gzip' };
    expect((await call(method, path, { token, body: '{}', headers: zipped })).status).toBe(415);
    const array = await call(method, path, { token, body: [] });
    expect(array.status).toBe(400);
    const max = operation.body?.bytesMax ?? 0;
    const long = { token, body: new Uint8Array(max + 1), headers: json };
    expect((await call(method, path, long)).status).toBe(413);
  }
});

function fieldsOf(value: unknown): Record<string, unknown> {
  return { ...fields(value) };
}
