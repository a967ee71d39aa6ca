import * as v from 'valibot';
import type { FieldFault } from '../dispatch/problem.ts';
import { Problem } from '../dispatch/problem.ts';
import type { ApiRequest } from './api-request.ts';

// What a request says beside its body. Each reader adds its faults to a list, so that all are told at once.

const IDEMPOTENCY_KEY = /^[!-~](?:[ -~]{0,254}[!-~])?$/;
const VERSION_TAG = /^"(\d{1,15})"$/;
const ENTITY_TAG = /^(?:W\/)?"[\x21\x23-\x7e]*"$/;

/**
 * The version that `If-Match` names; undefined: it was not sent. Throws `PreconditionFailed` for a tag that
 * no version has. Neither `*` nor a list is taken: whoever changes a record has read it.
 */
export function ifMatchOf({ headers }: ApiRequest, faults: FieldFault[]): number | undefined {
  const text = headers.get('if-match')?.trim();
  if (text === undefined) return undefined;
  const version = VERSION_TAG.exec(text)?.[1];
  if (version !== undefined) return Number(version);
  if (ENTITY_TAG.test(text)) throw new Problem('PreconditionFailed');
  faults.push({ path: 'If-Match', message: 'must be one version as it was read, like "3"' });
  return undefined;
}

export function idempotencyKeyOf(
  { headers }: ApiRequest,
  faults: FieldFault[],
): string | undefined {
  const text = headers.get('idempotency-key');
  if (text === undefined || IDEMPOTENCY_KEY.test(text)) return text;
  const message = 'must be 1 to 256 printable ASCII characters';
  faults.push({ path: 'Idempotency-Key', message });
  return undefined;
}

/** Checks a query: names that the schema does not have, and names that come twice, are faults. */
export function queryOf<Query>(
  schema: v.GenericSchema<unknown, Query>,
  { query }: ApiRequest,
  faults: FieldFault[],
): Query | undefined {
  const names = [...query.keys()];
  const repeated = new Set(names.filter((name, at) => names.indexOf(name) !== at));
  for (const name of repeated) faults.push({ path: `query.${shown(name)}`, message: 'came twice' });
  return checked(schema, Object.fromEntries(query), 'query.', faults);
}

/** Checks a value; undefined when it has faults, which are in the list then. */
export function checked<Value>(
  schema: v.GenericSchema<unknown, Value>,
  value: unknown,
  prefix: string,
  faults: FieldFault[],
): Value | undefined {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  const found = new Map<string, string>();
  for (const issue of parsed.issues) {
    const path = v.getDotPath(issue) ?? '';
    if (!found.has(path)) found.set(path, messageOf(issue));
  }
  // The schema itself stops at the first.
  for (const name of unknownNames(schema, value)) found.set(name, UNKNOWN);
  for (const [path, message] of [...found].slice(0, FAULTS_MAX)) {
    faults.push({ path: shown(`${prefix}${path}`.replace(/\.$/, '')), message });
  }
  return undefined;
}

const UNKNOWN = 'is not known here';

function messageOf({ message, received }: v.BaseIssue<unknown>): string {
  if (message.startsWith('Invalid key: Expected never')) return UNKNOWN;
  if (message.startsWith('Invalid key:') && received === 'undefined') return 'is missing';
  // Valibot quotes what it got; a body may hold what must not be said again.
  return message.replace(/ but received .*$/s, '');
}

function unknownNames(schema: v.GenericSchema, value: unknown): readonly string[] {
  if (schema.type !== 'strict_object' || !('entries' in schema)) return [];
  const { entries } = schema;
  if (typeof entries !== 'object' || entries === null) return [];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.keys(value).filter(name => !Object.hasOwn(entries, name));
}

/** More faults than that help nobody. */
const FAULTS_MAX = 100;
const PATH_CHARS_MAX = 200;

function shown(path: string): string {
  return path.length > PATH_CHARS_MAX ? `${path.slice(0, PATH_CHARS_MAX)}...` : path;
}

/** A whole number in a query. */
export function numberParameter(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/, message),
    v.transform(Number),
    v.number(),
    v.safeInteger(),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
}
