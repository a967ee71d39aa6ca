import { audit } from './audit.ts';
import { CONNECTION } from './records.ts';
import type { Draft, Repository } from './repository.ts';
import type { Run } from './run-record.ts';
import { moveSealed } from './sealed-index.ts';
import type { JobErrorCode } from '../jobs/error-codes.ts';

/** One more try with a wrong password, and the account may be locked on every machine. */
const SIGN_IN_REFUSED: ReadonlySet<JobErrorCode> = new Set([
  'WindowsIdentityIncorrect',
  'SessionCreationInvalidCredentials',
  'AccountLockedOut',
]);

/** The machine's own word that something is wrong with what it was sent. */
const SECURITY_EVENTS: ReadonlySet<JobErrorCode> = new Set([
  'CredentialCannotBeOpened',
  'CredentialContextMismatch',
  'CredentialVersionStale',
  'KeyIdUnknown',
  'OfferSignatureInvalid',
]);

/** Adds to the step that ends a run what follows for its connection when signing in was refused. */
export async function suspendAfter(
  draft: Draft,
  repository: Repository,
  { connectionId, fault, id, machineId = '' }: Run,
  nowMs: number,
): Promise<void> {
  if (fault === undefined) return;
  const { code } = fault;
  const entry = { atMs: nowMs, by: `machine:${machineId}`, object: connectionId };
  if (SECURITY_EVENTS.has(code)) {
    audit(draft, { ...entry, action: 'security.credential', details: { code, runId: id } });
  }
  if (!SIGN_IN_REFUSED.has(code)) return;
  const connection = await repository.get(CONNECTION, connectionId);
  if (connection === undefined || connection.value.suspended !== undefined) return;
  const suspended = { code, atMs: nowMs };
  const value = { ...connection.value, suspended };
  draft.replace(CONNECTION, connection, value);
  moveSealed(draft, connection.value, value);
  audit(draft, { ...entry, action: 'connection.suspend', details: { code, runId: id } });
}
