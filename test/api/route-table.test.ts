import * as v from 'valibot';
import { expect, test } from 'vitest';
import { operation, type Operation, type OperationSpec } from '../../src/api/operation.ts';
import { OPERATIONS } from '../../src/api/operations.ts';
import { parameterNames, RouteTable } from '../../src/api/route-table.ts';

function at(method: OperationSpec<unknown, unknown>['method'], path: string): Operation {
  return operation({
    method,
    path,
    who: 'nobody',
    tag: '',
    summary: '',
    answers: [],
    answer: () => Promise.resolve({ status: 204 }),
  });
}

test('match() finds an operation and the names in its path', () => {
  const operations = [
    at('GET', '/environments/{env}/machines/{id}'),
    at('POST', '/environments/{env}/machines/{id}:drain'),
  ];
  const table = new RouteTable(operations);
  expect(table.match('GET', '/$api/v1/environments/dev/machines/m1')).toEqual({
    type: 'found',
    operation: operations[0],
    params: { env: 'dev', id: 'm1' },
  });
  expect(table.match('POST', '/$api/v1/environments/dev/machines/m1:drain')).toEqual({
    type: 'found',
    operation: operations[1],
    params: { env: 'dev', id: 'm1' },
  });
});

test('match() answers HEAD as GET, and takes every method where one takes any', () => {
  const table = new RouteTable([at('GET', '/me'), at('ANY', '/echo')]);
  expect(table.match('HEAD', '/$api/v1/me').type).toBe('found');
  expect(table.match('BREW', '/$api/v1/echo').type).toBe('found');
});

test('match() tells the methods of a path that is there', () => {
  const table = new RouteTable([at('GET', '/me'), at('PATCH', '/me')]);
  expect(table.match('POST', '/$api/v1/me')).toEqual({
    type: 'other-methods',
    methods: ['GET', 'HEAD', 'OPTIONS', 'PATCH'],
  });
});

test('a dot in a path stands for itself', () => {
  const table = new RouteTable([at('GET', '/openapi.json')]);
  expect(table.match('GET', '/$api/v1/openapiXjson').type).toBe('unknown');
});

test('a table with a name that nothing is known of is refused', () => {
  expect(() => new RouteTable([at('GET', '/{thing}')])).toThrow('nothing is known of {thing}');
});

test('each path and method is there once, and none hides another', () => {
  const table = new RouteTable(OPERATIONS);
  for (const wanted of OPERATIONS) {
    const filled = parameterNames(wanted.path).reduce(
      (path, name) => path.replace(`{${name}}`, EXAMPLES[name] ?? 'x1'),
      wanted.path,
    );
    const method = wanted.method === 'ANY' ? 'GET' : wanted.method;
    expect(table.match(method, `/$api/v1${filled}`)).toMatchObject({ operation: wanted });
  }
});

const EXAMPLES: Readonly<Record<string, string>> = { principal: 'user:ann', attempt: '1' };

test('an answer of one status has one schema', () => {
  for (const { path, answers } of OPERATIONS) {
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses).size, path).toBe(statuses.length);
    for (const { status, schema } of answers) {
      expect(schema === undefined || v.isOfKind('schema', schema), path).toBe(true);
      expect(status === 204, path).toBe(schema === undefined);
    }
  }
});
