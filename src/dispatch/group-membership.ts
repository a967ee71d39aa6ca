import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { decodeBase64Url } from '../crypto/base64url.ts';
import { sealEnvelope, type Envelope } from '../crypto/envelope.ts';
import { isSignedBy, verifyingKeyOf } from '../crypto/es256.ts';
import { importPublicKey } from '../crypto/hpke.ts';
import { MACHINES_PER_GROUP_MAX } from '../jobs/limits.ts';
import { may, requireMay } from './access.ts';
import { audit } from './audit.ts';
import { CHALLENGES_INDEX } from './challenges.ts';
import { newId, parseBody, sha256Of } from './checks.ts';
import { groupFor, nameOf, requireMember, requireSelf, type GroupActor } from './group-actors.ts';
import { keyPackageSchema, requireFitting, type GroupPackageRecord } from './group-package.ts';
import { membershipWith } from './held-keys.ts';
import { membersIndex } from './run-indexes.ts';
import { wake } from './machine-presence.ts';
import { checkedKey } from './machine-requests.ts';
import { Problem } from './problem.ts';
import { CHALLENGE, GROUP, MACHINE, type Group, type GroupKey, type Machine } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';

const CHALLENGE_BYTES = 32;
const CHALLENGE_MS = 5 * 60_000;
/** Packages are offline oracles for the password: each look at one counts. Per group and hour. */
const FETCHES_MAX = 60;
const HOUR_MS = 3_600_000;

export const proofSchema = v.strictObject({
  challengeId: v.string(),
  /** What was sealed, base64url. */
  answer: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/)),
  /** ES256 of the machine's identity key over `joinProofText`. */
  signature: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{86}$/)),
});

/** What a joining machine signs. */
export function joinProofText(groupId: string, challengeId: string, answer: string): string {
  return `hyco-jobs/1 join ${groupId} ${challengeId} ${answer}`;
}

export type { GroupActor } from './group-actors.ts';
export { keyPackageSchema } from './group-package.ts';

/** The present key of a group, or the one that is to take its place. */
export type WhichKey = 'primary' | 'secondary';

/**
 * A group's key and who has it. The server keeps the private key under a password it does not know, and
 * believes a machine to have the key when it opens what was sealed to it. Source: job-dispatch.md section 4.2.
 */
export class GroupMembership {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /** What a joining machine unwraps. Audited, and only so often. */
  async keyPackage(
    actor: GroupActor,
    groupId: string,
    which: WhichKey = 'primary',
  ): Promise<GroupPackageRecord> {
    return this.#repository.change(async () => {
      const group = await groupFor(this.#repository, actor, groupId);
      const key = keyOf(group.value, which);
      const nowMs = this.#clock.wallMs();
      const draft = new Draft();
      await this.#countFetch(draft, groupId, nowMs);
      const by = nameOf(actor);
      audit(draft, { atMs: nowMs, action: 'group.key-package.read', by, object: groupId });
      return { draft, answer: key.package };
    });
  }

  /**
   * The first key of a group (`generation` 0: there is none), or the same key under another password, one
   * generation on. Throws `PreconditionFailed` when somebody else was faster.
   */
  async putKeyPackage(
    actor: GroupActor,
    groupId: string,
    generation: number | undefined,
    body: unknown,
  ): Promise<Versioned<Group>> {
    if (generation === undefined) throw new Problem('PreconditionRequired');
    const request = parseBody(keyPackageSchema, body);
    const publicKey = await checkedKey(request.point, 'point');
    return this.#repository.change(async () => {
      const group = await groupFor(this.#repository, actor, groupId);
      const before = group.value.key;
      if ((before?.package.generation ?? 0) !== generation) throw new Problem('PreconditionFailed');
      const given = request.package;
      // Another key is a rotation, which seals the connections anew.
      const isSame = before === undefined || before.publicKey.kid === publicKey.kid;
      requireFitting(given, {
        groupId,
        publicKey,
        generation: generation + 1,
        isKeyFitting: isSame,
      });
      if (group.value.rotation !== undefined) {
        throw new Problem('VersionConflict', 'the key is being changed: end that first');
      }
      if (before !== undefined) await requireMember(this.#repository, actor, group);
      const nowMs = this.#clock.wallMs();
      const by = nameOf(actor);
      const key = {
        publicKey,
        package: given,
        createdAtMs: before?.createdAtMs ?? nowMs,
        passwordChangedAtMs: nowMs,
        passwordChangedBy: by,
      };
      const value = { ...group.value, key };
      const draft = new Draft().replace(GROUP, group, value);
      const action = before === undefined ? 'group.key.create' : 'group.password.change';
      const details = { kid: publicKey.kid, generation: given.generation };
      audit(draft, { atMs: nowMs, action, by, object: groupId, details });
      return { draft, answer: { id: groupId, version: group.version + 1, value } };
    });
  }

  /** Begins to join: 32 random bytes sealed to the group's key, which only who unwrapped it can open. */
  async challenge(
    actor: GroupActor,
    groupId: string,
    machineId: string,
    which: WhichKey = 'primary',
  ): Promise<{ readonly challengeId: string; readonly sealed: Envelope }> {
    const group = await groupFor(this.#repository, actor, groupId);
    const key = keyOf(group.value, which);
    await this.#joinable(actor, groupId, machineId);
    const challengeId = newId();
    const secret = new Uint8Array(randomBytes(CHALLENGE_BYTES));
    const { kid, point } = key.publicKey;
    const bytes = decodeBase64Url(point);
    if (bytes === undefined)
      throw new Error(`The public key of the group ${groupId} cannot be read`);
    const holder = {
      tenant: group.value.tenant,
      environment: this.#repository.partition,
      kind: 'group',
      id: groupId,
      kid,
    } as const;
    const purpose = { type: 'challenge', machineId, challengeId } as const;
    const sealed = await sealEnvelope(await importPublicKey(bytes), holder, purpose, secret);
    const sha256 = sha256Of(Buffer.from(secret).toString('base64url'));
    secret.fill(0);
    const expiresAtMs = this.#clock.wallMs() + CHALLENGE_MS;
    const value = { id: challengeId, groupId, machineId, kid, sha256, expiresAtMs };
    await this.#repository.change(async () => {
      const draft = new Draft().create(CHALLENGE, challengeId, value);
      draft.add(CHALLENGES_INDEX, challengeId, expiresAtMs);
      return Promise.resolve({ draft, answer: undefined });
    });
    return { challengeId, sealed };
  }

  /** Joins: the machine has opened the challenge, and says so with its identity key. */
  async join(actor: GroupActor, groupId: string, machineId: string, body: unknown): Promise<void> {
    const { challengeId, answer, signature } = parseBody(proofSchema, body);
    await this.#repository.change(async () => {
      const group = await groupFor(this.#repository, actor, groupId);
      const machine = await this.#joinable(actor, groupId, machineId);
      const challenge = await this.#repository.get(CHALLENGE, challengeId);
      const nowMs = this.#clock.wallMs();
      const isOpened =
        challenge !== undefined &&
        challenge.value.groupId === groupId &&
        challenge.value.machineId === machineId &&
        isPresentOrNext(group.value, challenge.value.kid) &&
        challenge.value.expiresAtMs > nowMs &&
        challenge.value.sha256 === sha256Of(answer);
      const text = Buffer.from(joinProofText(groupId, challengeId, answer));
      const key = verifyingKeyOf(machine.value.identityKey);
      if (!isOpened || key === undefined || !isSignedBy(key, text, signature)) {
        throw new Problem('TokenInvalid', 'the challenge was not opened; see the group password');
      }
      const { kid } = challenge.value;
      const isMember = machine.value.group?.id === groupId;
      const isNext = kid !== group.value.key?.publicKey.kid;
      if (isNext && !isMember) throw new Problem('VersionConflict', 'join with the present key');
      const draft = new Draft()
        .unchanged(GROUP, group)
        .remove(CHALLENGE, challenge)
        .drop(CHALLENGES_INDEX, challengeId)
        .replace(MACHINE, machine, {
          ...machine.value,
          group: membershipWith(machine.value.group, group.value, kid),
          eligibleAtMs: nowMs,
        })
        .add(membersIndex(groupId), machineId, nowMs);
      if (!isMember) {
        const full = new Problem('QuotaReached', `a group has ${MACHINES_PER_GROUP_MAX} machines`);
        draft.below(membersIndex(groupId), MACHINES_PER_GROUP_MAX, full);
      }
      wake(draft, machineId, nowMs);
      const details = { machineId, kid };
      audit(draft, {
        atMs: nowMs,
        action: isNext ? 'group.key.prove' : 'group.join',
        by: nameOf(actor),
        object: groupId,
        details,
      });
      return { draft, answer: undefined };
    });
  }

  /** The key package stays, so that a machine with the password may come back. Rotation is recommended. */
  async leave(actor: GroupActor, groupId: string, machineId: string): Promise<void> {
    await this.#repository.change(async () => {
      const group = await this.#repository.get(GROUP, groupId);
      if (group === undefined) throw new Problem('MachineGroupNotFound');
      const machine = await this.#repository.get(MACHINE, machineId);
      if (machine?.value.group?.id !== groupId) throw new Problem('NotFound', 'it is no member');
      // Either side may part.
      if (actor.type === 'machine') requireSelf(actor, machineId);
      else if (!may(actor.caller, 'edit', machine.value))
        requireMay(actor.caller, 'edit', group.value);
      const nowMs = this.#clock.wallMs();
      const draft = new Draft()
        .replace(MACHINE, machine, { ...machine.value, group: undefined, eligibleAtMs: nowMs })
        .drop(membersIndex(groupId), machineId);
      wake(draft, machineId, nowMs);
      const entry = { atMs: nowMs, action: 'group.leave', by: nameOf(actor), object: groupId };
      audit(draft, { ...entry, details: { machineId } });
      return { draft, answer: undefined };
    });
  }

  /** The machine is there, the actor's to decide about, and in no other group. */
  async #joinable(
    actor: GroupActor,
    groupId: string,
    machineId: string,
  ): Promise<Versioned<Machine>> {
    const machine = await this.#repository.get(MACHINE, machineId);
    if (machine === undefined) throw new Problem('MachineNotFound');
    if (actor.type === 'machine') requireSelf(actor, machineId);
    else requireMay(actor.caller, 'edit', machine.value);
    const other = machine.value.group?.id;
    if (other !== undefined && other !== groupId) {
      throw new Problem('VersionConflict', 'the machine is in another group; let it leave first');
    }
    return machine;
  }

  async #countFetch(draft: Draft, groupId: string, nowMs: number): Promise<void> {
    const hour = Math.floor(nowMs / HOUR_MS);
    const index = `fetches:${groupId}`;
    const [first] = await this.#repository.range(index, { limit: 1 });
    if (first !== undefined && first.score < hour) {
      draft.member(index, first.member, true).clearIndex(index);
    } else {
      const retryAfterSeconds = Math.ceil(((hour + 1) * HOUR_MS - nowMs) / 1_000);
      const often = new Problem('QuotaReached', 'the key package was read too often', {
        retryAfterSeconds,
      });
      draft.below(index, FETCHES_MAX, often);
    }
    draft.add(index, newId(), hour);
  }
}

function keyOf({ key, rotation }: Group, which: WhichKey): GroupKey {
  const found = which === 'primary' ? key : rotation?.secondary;
  const what = which === 'primary' ? 'key' : 'next key';
  if (found === undefined) throw new Problem('NotFound', `the group has no ${what} yet`);
  return found;
}

function isPresentOrNext({ key, rotation }: Group, kid: string): boolean {
  return key?.publicKey.kid === kid || rotation?.secondary?.publicKey.kid === kid;
}
