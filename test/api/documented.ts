import { createRequire } from 'node:module';
import { openApiDocument } from '../../src/api/openapi.ts';
import type { Operation } from '../../src/api/operation.ts';
import { OPERATIONS } from '../../src/api/operations.ts';
import { RouteTable } from '../../src/api/route-table.ts';
import type { Got } from './api-bench.ts';

// Holds answers to the OpenAPI document, with a JSON Schema validator that knows nothing of our schemas.

type Validate = { (value: unknown): boolean; readonly errors?: unknown };
interface Ajv {
  compile(schema: object): Validate;
}

// The validator of OpenAPI documents brings it along.
const require = createRequire(import.meta.resolve('@seriousme/openapi-schema-validator'));
const { Ajv2020 }: { Ajv2020: new (options: object) => Ajv } = require('ajv/dist/2020.js');
const addFormats: { default: (ajv: Ajv) => void } = require('ajv-formats');

export const DOCUMENT = openApiDocument(OPERATIONS, '1.2.3');
const table = new RouteTable(OPERATIONS);
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
const validators = new Map<string, Validate>();

/** Names what an answer has that the document does not say. */
export function undocumented(method: string, path: string, got: Got): readonly string[] {
  const match = table.match(method, path);
  if (match.type !== 'found') return [];
  const { operation } = match;
  const response = at(DOCUMENT, [
    'paths',
    `/$api/v1${operation.path}`,
    methodOf(operation, method),
    'responses',
    String(got.status),
  ]);
  if (response === undefined) return [`status ${got.status} of ${operation.path}: ${got.text}`];
  const type = got.headers['Content-Type']?.split(';')[0];
  if (type === undefined) return [];
  const content = at(response, ['content', type]);
  if (content === undefined) return [`type ${type} of ${operation.path}`];
  const schema = at(content, ['schema']);
  if (schema === undefined) return [];
  const validate = validatorOf(schema);
  return validate(got.json) ? [] : [`${operation.path}: ${JSON.stringify(validate.errors)}`];
}

/** Methods that OpenAPI has no place for are answered as POST is. */
function methodOf({ method }: Operation, sent: string): string {
  const known = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
  const wanted = method === 'ANY' ? sent : method;
  return (known.includes(wanted) ? wanted : 'POST').toLowerCase();
}

function validatorOf(schema: object): Validate {
  const key = JSON.stringify(schema);
  const before = validators.get(key);
  if (before !== undefined) return before;
  const components = at(DOCUMENT, ['components']) ?? {};
  const made = ajv.compile({ ...schema, components });
  validators.set(key, made);
  return made;
}

function at(value: object, path: readonly string[]): object | undefined {
  let found: unknown = value;
  for (const name of path) {
    if (typeof found !== 'object' || found === null) return undefined;
    found = new Map<string, unknown>(Object.entries(found)).get(name);
  }
  return typeof found === 'object' && found !== null ? found : undefined;
}
