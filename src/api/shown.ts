import * as v from 'valibot';
import type { Versioned } from '../dispatch/repository.ts';
import { formatTimestamp } from '../protocol/timestamps.ts';

// How a record is shown follows from its schema: moments in milliseconds become texts, all else stays. Walking
// the schema and not the value leaves alone what people named themselves (labels, inputs).

/** ISO 8601, in UTC, with milliseconds. */
export const momentTextSchema = v.pipe(v.string(), v.isoTimestamp());

/**
 * Members that no record is shown with, however deep they are and whoever adds them: what is secret, what is
 * sealed, and packages that passwords can be tried on.
 */
const NEVER_SHOWN: ReadonlySet<string> = new Set([
  'envelope',
  'formerSecret',
  'package',
  'secret',
  'sha256',
]);
const MOMENT_NAME = /^(at|.*At|.*Until|.*Before)Ms$/;

/** A kind of representation: what it looks like, and how one is made of a record. */
export interface Shown<Value> {
  readonly schema: v.GenericSchema;
  readonly entries: v.ObjectEntries;
  /** Members that are undefined are not sent. */
  of(record: Versioned<Value>, more?: Readonly<Record<string, unknown>>): Record<string, unknown>;
}

/** Of a record: all members, its `version`, and `more` members that are computed, which are given with each. */
export function shownRecord<Value>(
  schema: v.GenericSchema<unknown, Value>,
  more: v.ObjectEntries = {},
): Shown<Value> {
  const entries = { ...shownEntries(schema), version: versionSchema, ...more };
  return {
    schema: v.strictObject(entries),
    entries,
    of: ({ version, value }, given = {}) => ({ ...showObject(schema, value), version, ...given }),
  };
}

const versionSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

/** The schema of how values of a schema are shown. */
export function shownSchema(schema: v.GenericSchema): v.GenericSchema {
  if (isObject(schema)) return v.strictObject(shownEntries(schema));
  if (isWrapped(schema)) {
    const wrapped = shownSchema(schema.wrapped);
    return schema.type === 'nullable' ? v.nullable(wrapped) : v.optional(wrapped);
  }
  if (isArray(schema)) return v.array(shownSchema(schema.item));
  if (isRecord(schema)) return v.record(schema.key, shownSchema(schema.value));
  return schema;
}

/** A value of a schema as it is shown. */
export function showValue(schema: v.GenericSchema, value: unknown): unknown {
  if (value === undefined || value === null) return value;
  if (isObject(schema)) return showObject(schema, value);
  if (isWrapped(schema)) return showValue(schema.wrapped, value);
  if (isArray(schema) && Array.isArray(value)) {
    return value.map(item => showValue(schema.item, item));
  }
  if (isRecord(schema)) {
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [name, showValue(schema.value, member)]),
    );
  }
  return value;
}

export function momentText(wallMs: number): string {
  const ms = String(((wallMs % 1_000) + 1_000) % 1_000).padStart(3, '0');
  return `${formatTimestamp(wallMs)}.${ms}Z`;
}

function showObject(schema: v.GenericSchema, value: unknown): Record<string, unknown> {
  if (!isObject(schema) || typeof value !== 'object' || value === null) return {};
  const members = new Map<string, unknown>(Object.entries(value));
  return Object.fromEntries(
    membersOf(schema).map(([name, member]) => {
      const given = members.get(name);
      const moment = MOMENT_NAME.exec(name)?.[1];
      if (moment !== undefined && typeof given === 'number') return [moment, momentText(given)];
      return [moment ?? name, showValue(member, given)];
    }),
  );
}

/** Members of an object as they are shown. */
export function shownEntries(schema: v.GenericSchema): v.ObjectEntries {
  if (!isObject(schema)) return {};
  return Object.fromEntries(
    membersOf(schema).map(([name, member]) => {
      const moment = MOMENT_NAME.exec(name)?.[1];
      if (moment === undefined) return [name, shownSchema(member)];
      return [moment, isWrapped(member) ? v.optional(momentTextSchema) : momentTextSchema];
    }),
  );
}

interface WrappedSchema extends v.GenericSchema {
  readonly wrapped: v.GenericSchema;
}
interface ArraySchema extends v.GenericSchema {
  readonly item: v.GenericSchema;
}
interface RecordSchema extends v.GenericSchema {
  readonly key: v.GenericSchema<string>;
  readonly value: v.GenericSchema;
}
interface ObjectSchema extends v.GenericSchema {
  readonly entries: Readonly<Record<string, v.GenericSchema>>;
}

function membersOf({ entries }: ObjectSchema): readonly [string, v.GenericSchema][] {
  return Object.entries(entries).filter(([name]) => !NEVER_SHOWN.has(name));
}

function isObject(schema: v.GenericSchema): schema is ObjectSchema {
  return schema.type === 'object' || schema.type === 'strict_object';
}

function isWrapped(schema: v.GenericSchema): schema is WrappedSchema {
  return schema.type === 'optional' || schema.type === 'nullable';
}

function isArray(schema: v.GenericSchema): schema is ArraySchema {
  return schema.type === 'array';
}

function isRecord(schema: v.GenericSchema): schema is RecordSchema {
  return schema.type === 'record';
}
