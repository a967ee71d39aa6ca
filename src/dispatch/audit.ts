import * as v from 'valibot';
import { LOG_KEEP_MAX } from '../store/dispatch-store.ts';
import { momentSchema } from './records.ts';
import type { Draft, Repository } from './repository.ts';

// Every operation on keys, credentials, membership, access and runs, in one log of the environment. An
// entry is written in the very step of what it tells: neither is there without the other.

const auditEntrySchema = v.object({
  atMs: momentSchema,
  /** `machine.register`, `connection.delete`: the noun, then the verb. */
  action: v.string(),
  by: v.string(),
  /** Id of what was changed. */
  object: v.string(),
  /** Never a secret, never an envelope; of keys their ids. */
  details: v.record(v.string(), v.union([v.string(), v.number(), v.boolean()])),
});
export type AuditEntry = v.InferOutput<typeof auditEntrySchema>;

const AUDIT_LOG = 'audit';

export function audit(
  draft: Draft,
  entry: Omit<AuditEntry, 'details'> & Partial<Pick<AuditEntry, 'details'>>,
): Draft {
  return draft.append(AUDIT_LOG, { details: {}, ...entry }, LOG_KEEP_MAX);
}

/** Entries behind number `after`, oldest first; numbers tell where to go on. */
export async function readAudit(
  repository: Repository,
  query: { readonly after: number; readonly limit: number },
): Promise<readonly (AuditEntry & { readonly number: number })[]> {
  const { entries } = await repository.log(AUDIT_LOG, query);
  return entries.map(({ number, text }) => {
    const { atMs, action, by, object, details } = v.parse(auditEntrySchema, JSON.parse(text));
    return { number, atMs, action, by, object, details };
  });
}
