import * as v from 'valibot';
import { entityKey } from '../protocol/request-path.ts';
import { RIGHTS, type SasRule } from '../protocol/resources.ts';

/** A rule that was made at run time. `revision` is new at each write and is what its ETag says. */
export interface RuleRecord extends SasRule {
  readonly secondaryKey: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly revision: string;
}

/** A hybrid connection that was made at run time, without its rules. */
export interface HybridConnectionSettings {
  readonly name: string;
  readonly requiresClientAuthorization: boolean;
  readonly userMetadata: string;
  /** As in the relay's `HybridConnectionTerms`. */
  readonly replacesListener?: boolean | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** New at each write of these settings; writes to its rules leave it. */
  readonly revision: string;
}

/**
 * What one level has got at run time: a hybrid connection with its rules, or the rules of a namespace.
 * One record, so that the limit of rules is kept and a deletion is whole by comparing one version.
 */
export interface RelayRecord {
  /** Name of the namespace, in its own spelling. */
  readonly namespace: string;
  /** Absent: the namespace's own level. */
  readonly hybridConnection?: HybridConnectionSettings;
  readonly rules: readonly RuleRecord[];
}

/** Where a record stands: names in the form in which they are compared. */
export interface RecordKey {
  readonly namespace: string;
  readonly hybridConnection?: string;
}

export function keyOf(record: RelayRecord): RecordKey {
  return recordKey(record.namespace, record.hybridConnection?.name);
}

export function recordKey(namespace: string, hybridConnection?: string): RecordKey {
  return {
    namespace: namespace.toLowerCase(),
    ...(hybridConnection === undefined ? {} : { hybridConnection: entityKey(hybridConnection) }),
  };
}

/** `namespace`, or `namespace/hybrid/connection`: names of namespaces hold no slash. */
export function formatKey({ namespace, hybridConnection }: RecordKey): string {
  return hybridConnection === undefined ? namespace : `${namespace}/${hybridConnection}`;
}

export function parseKey(text: string): RecordKey {
  const slash = text.indexOf('/');
  if (slash === -1) return { namespace: text };
  return { namespace: text.slice(0, slash), hybridConnection: text.slice(slash + 1) };
}

export function formatRecord(record: RelayRecord): string {
  return JSON.stringify(record);
}

/** Undefined when the text is not a record of ours: another program, or a newer one, wrote it. */
export function parseRecord(text: string): RelayRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = v.safeParse(RECORD, value);
  if (!parsed.success) return undefined;
  const { namespace, rules, hybridConnection } = parsed.output;
  return { namespace, rules, ...(hybridConnection === undefined ? {} : { hybridConnection }) };
}

/** What a change in a feed means; '' stands for a deletion. */
export function readChange(
  text: string,
  version: number,
): { readonly version: number; readonly record: RelayRecord } | 'deleted' | 'unreadable' {
  if (text === '') return 'deleted';
  const record = parseRecord(text);
  return record === undefined ? 'unreadable' : { version, record };
}

const WRITTEN = { createdAtMs: v.number(), updatedAtMs: v.number(), revision: v.string() };
const KEY = v.pipe(v.string(), v.minLength(1));

const RECORD = v.object({
  namespace: v.string(),
  hybridConnection: v.optional(
    v.object({
      name: v.string(),
      requiresClientAuthorization: v.boolean(),
      userMetadata: v.string(),
      replacesListener: v.optional(v.boolean()),
      ...WRITTEN,
    }),
  ),
  rules: v.array(
    v.object({
      name: v.string(),
      rights: v.array(v.picklist(RIGHTS)),
      primaryKey: KEY,
      secondaryKey: KEY,
      ...WRITTEN,
    }),
  ),
});
