import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { envelopeSchema } from '../jobs/messages.ts';
import { requireIn, requireMay, withGrant, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { parseBody, requireVersion } from './checks.ts';
import { clearRunRate } from './connection-rate.ts';
import { repetitionOf } from './idempotency.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { refusePlaintext } from './plaintext.ts';
import { Problem } from './problem.ts';
import {
  CONNECTION,
  grantSchema,
  GROUP,
  idSchema,
  MACHINE,
  nameSchema,
  principalSchema,
  targetSchema,
  TENANT,
  type Connection,
  type Grant,
  type PublicKey,
  type Target,
} from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { waitingOfIndex } from './run-indexes.ts';
import { moveSealed } from './sealed-index.ts';
import { failWaiting } from './waiting-runs.ts';

const CONNECTIONS_INDEX = 'connections';

const accountNameSchema = v.pipe(v.string(), v.minLength(1), v.maxLength(256));
const vaultRefSchema = v.pipe(v.string(), v.minLength(1), v.maxLength(1_024));

export const newConnectionSchema = v.strictObject({
  /** Made by the client: the credentials are bound to it when they are sealed. */
  id: idSchema,
  name: nameSchema,
  kind: v.optional(v.picklist(['password', 'vaultRef', 'none']), 'password'),
  target: targetSchema,
  envelope: v.optional(envelopeSchema),
  vaultRef: v.optional(vaultRefSchema),
  accountName: v.optional(accountNameSchema),
  mayReseal: v.optional(v.boolean(), false),
});

export const connectionPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  accountName: v.optional(accountNameSchema),
  mayReseal: v.optional(v.boolean()),
  target: v.optional(targetSchema),
  /** New credentials, sealed for `credentialVersion`. */
  envelope: v.optional(envelopeSchema),
  vaultRef: v.optional(vaultRefSchema),
  /** One more than the present one; required with new credentials. */
  credentialVersion: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(2))),
});

type Patch = v.InferOutput<typeof connectionPatchSchema>;

/** A connection without what is sealed: what people are shown. */
export type ShownConnection = Omit<Connection, 'envelope'> & { readonly kid: string | undefined };

/** Targets with credentials that nobody here can open. Source: job-dispatch.md section 6. */
export class Connections {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;

  constructor(repository: Repository, changes: RunChanges, clock: Clock) {
    this.#repository = repository;
    this.#changes = changes;
    this.#clock = clock;
  }

  /** Its credentials have version 1. Throws `PlaintextCredentialRefused` before anything else. */
  async create(
    caller: Caller,
    body: unknown,
    key?: string,
  ): Promise<{ readonly connection: Versioned<Connection>; readonly isRepeated: boolean }> {
    refusePlaintext(body);
    requireIn(caller, 'run');
    const request = parseBody(newConnectionSchema, body);
    requireCredentials(request);
    return this.#repository.change<{
      readonly connection: Versioned<Connection>;
      readonly isRepeated: boolean;
    }>(async () => {
      const nowMs = this.#clock.wallMs();
      const about = { key, caller: caller.name, kind: 'connection', body };
      const repetition = await repetitionOf(this.#repository, about, nowMs);
      if (repetition.resourceId !== undefined) {
        const connection = await this.get(caller, repetition.resourceId);
        return { draft: new Draft(), answer: { connection, isRepeated: true } };
      }
      const draft = new Draft();
      await this.#checkTarget(draft, caller, request.target, request.envelope?.kid);
      const value: Connection = {
        ...request,
        tenant: TENANT,
        owner: caller.name,
        runOwner: caller.name,
        access: {},
        credentialVersion: 1,
        createdAtMs: nowMs,
        createdBy: caller.name,
        updatedAtMs: nowMs,
      };
      const { id } = request;
      draft.create(CONNECTION, id, value, new Problem('VersionConflict', 'the id is taken'));
      draft.add(CONNECTIONS_INDEX, id, nowMs);
      moveSealed(draft, undefined, value);
      repetition.remember(draft, id);
      this.#audit(draft, caller, 'connection.create', value);
      const connection = { id, version: 1, value };
      return { draft, answer: { connection, isRepeated: false } };
    });
  }

  async get(caller: Caller, id: string): Promise<Versioned<Connection>> {
    return this.#get(caller, 'view', id);
  }

  list(caller: Caller, query: PageQuery, target?: Target): Promise<Page<Connection>> {
    requireIn(caller, 'view');
    return pageOf(
      this.#repository,
      { kind: CONNECTION, index: CONNECTIONS_INDEX },
      query,
      connection =>
        target === undefined ||
        (connection.target.kind === target.kind && connection.target.id === target.id),
    );
  }

  /**
   * Changes a connection. New credentials take the place of the old ones, which are kept nowhere, and lift a
   * suspension. Another target takes new credentials, since those are sealed to its key.
   */
  async patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Connection>> {
    refusePlaintext(body);
    const patch = parseBody(connectionPatchSchema, body);
    return this.#change(caller, id, 'connection.patch', 'edit', async (draft, before) => {
      requireVersion(before, ifMatch);
      const value = patched(before.value, patch);
      if (hasNewCredentials(patch) || patch.target !== undefined) {
        await this.#checkTarget(draft, caller, value.target, value.envelope?.kid);
      }
      return value;
    });
  }

  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Connection>> {
    const name = parseBody(principalSchema, principal);
    const given = parseBody(v.optional(grantSchema), grant);
    const action = `connection.access.${given ?? 'none'}:${name}`;
    return this.#change(caller, id, action, 'share', async (_draft, { value }) =>
      Promise.resolve({ ...value, access: withGrant(value.access, name, given) }),
    );
  }

  /** The ciphertext goes with the record. What waits for it fails; a run that has it already goes on. */
  async delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void> {
    await this.#repository.change(async () => {
      const connection = await this.#get(caller, 'delete', id);
      requireVersion(connection, ifMatch);
      const draft = new Draft().remove(CONNECTION, connection).drop(CONNECTIONS_INDEX, id);
      clearRunRate(draft, id);
      moveSealed(draft, connection.value, undefined);
      this.#audit(draft, caller, 'connection.delete', connection.value);
      return { draft, answer: undefined };
    });
    const fault = { code: 'ConnectionDeleted' } as const;
    await failWaiting(this.#repository, this.#changes, waitingOfIndex(id), fault);
  }

  /** The target is there, the caller may use it, and what is sealed is sealed to its present key. */
  async #checkTarget(
    draft: Draft,
    caller: Caller,
    { kind, id }: Target,
    kid: string | undefined,
  ): Promise<void> {
    const key =
      kind === 'machine'
        ? await this.#machineKey(draft, caller, id)
        : await this.#groupKey(draft, caller, id);
    if (kid !== undefined && kid !== key?.kid) {
      throw new Problem('KeyIdUnknown', 'seal to the key that the target has now');
    }
  }

  async #machineKey(draft: Draft, caller: Caller, id: string): Promise<PublicKey> {
    const machine = await this.#repository.get(MACHINE, id);
    if (machine === undefined) throw new Problem('MachineNotFound');
    requireMay(caller, 'use', machine.value);
    draft.unchanged(MACHINE, machine);
    return machine.value.encryptionKey;
  }

  async #groupKey(draft: Draft, caller: Caller, id: string): Promise<PublicKey | undefined> {
    const group = await this.#repository.get(GROUP, id);
    if (group === undefined) throw new Problem('MachineGroupNotFound');
    requireMay(caller, 'use', group.value);
    draft.unchanged(GROUP, group);
    return group.value.key?.publicKey;
  }

  async #get(caller: Caller, action: Action, id: string): Promise<Versioned<Connection>> {
    requireIn(caller, 'view');
    const connection = await this.#repository.get(CONNECTION, id);
    if (connection === undefined) throw new Problem('ConnectionNotFound');
    requireMay(caller, action, connection.value);
    return connection;
  }

  #change(
    caller: Caller,
    id: string,
    action: string,
    needed: Action,
    change: (draft: Draft, before: Versioned<Connection>) => Promise<Connection>,
  ): Promise<Versioned<Connection>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, needed, id);
      const draft = new Draft();
      const value = { ...(await change(draft, before)), updatedAtMs: this.#clock.wallMs() };
      draft.replace(CONNECTION, before, value);
      moveSealed(draft, before.value, value);
      this.#audit(draft, caller, action, value);
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }

  #audit(draft: Draft, caller: Caller, action: string, connection: Connection): void {
    const { id, target, credentialVersion, envelope } = connection;
    const details = {
      target: `${target.kind}:${target.id}`,
      credentialVersion,
      kid: envelope?.kid ?? '',
    };
    audit(draft, { atMs: this.#clock.wallMs(), action, by: caller.name, object: id, details });
  }
}

/** What people are shown of a connection: of its credentials the key and the version. */
export function shownConnection({ envelope, ...rest }: Connection): ShownConnection {
  return { ...rest, kid: envelope?.kid };
}

function patched(before: Connection, patch: Patch): Connection {
  const { name, accountName, mayReseal, target, envelope, vaultRef, credentialVersion } = patch;
  const isNew = hasNewCredentials(patch);
  const isMoved =
    target !== undefined && (target.kind !== before.target.kind || target.id !== before.target.id);
  if (isMoved && before.kind === 'password' && !isNew) {
    throw malformed('envelope', 'another target takes new credentials: it has another key');
  }
  if (isNew && credentialVersion !== before.credentialVersion + 1) {
    throw malformed('credentialVersion', `must be ${before.credentialVersion + 1}`);
  }
  const value: Connection = {
    ...before,
    name: name ?? before.name,
    accountName: accountName ?? before.accountName,
    mayReseal: mayReseal ?? before.mayReseal,
    target: target ?? before.target,
    envelope: envelope ?? before.envelope,
    vaultRef: vaultRef ?? before.vaultRef,
    credentialVersion: isNew ? before.credentialVersion + 1 : before.credentialVersion,
    suspended: isNew ? undefined : before.suspended,
  };
  requireCredentials(value);
  return value;
}

function hasNewCredentials({ envelope, vaultRef }: Patch): boolean {
  return envelope !== undefined || vaultRef !== undefined;
}

/** Each kind has what it needs and nothing else. */
function requireCredentials({
  kind,
  envelope,
  vaultRef,
}: Pick<Connection, 'kind' | 'envelope' | 'vaultRef'>): void {
  if ((envelope !== undefined) !== (kind === 'password')) {
    throw malformed(
      'envelope',
      `a connection of kind "${kind}" has ${kind === 'password' ? 'one' : 'none'}`,
    );
  }
  if ((vaultRef !== undefined) !== (kind === 'vaultRef')) {
    throw malformed(
      'vaultRef',
      `a connection of kind "${kind}" has ${kind === 'vaultRef' ? 'one' : 'none'}`,
    );
  }
}

function malformed(path: string, message: string): Problem {
  return new Problem('RequestMalformed', undefined, { errors: [{ path, message }] });
}
