import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { parseBody } from './checks.ts';
import { groupFor, nameOf, requireMember, type GroupActor } from './group-actors.ts';
import { GroupMembers } from './group-members.ts';
import { keyPackageSchema, requireFitting } from './group-package.ts';
import { holdsKid, kidsOf } from './held-keys.ts';
import {
  DAY_MS,
  FORMER_KEYS_INDEX,
  GRACE_DAYS_DEFAULT,
  GRACE_DAYS_MAX,
  ROTATIONS_INDEX,
  suspendSealedTo,
} from './key-retirement.ts';
import type { MachineCommands } from './machine-commands.ts';
import { checkedKey } from './machine-requests.ts';
import { Problem } from './problem.ts';
import { CONNECTION, GROUP, type Group, type GroupKey, type PublicKey } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { Resealed, Resealing } from './resealing.ts';
import { sealedIndex } from './sealed-index.ts';

const SHOWN_CONNECTIONS_MAX = 100;

export const groupPromotionSchema = v.strictObject({
  /** Connections that are still sealed to the old key are suspended instead of being in the way. */
  suspendRest: v.optional(v.boolean(), false),
  graceDays: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(GRACE_DAYS_MAX)),
    GRACE_DAYS_DEFAULT,
  ),
});

/** How far a rotation is. */
export interface RotationView {
  readonly startedAtMs: number;
  readonly startedBy: string;
  /** Undefined: no member has made it yet. */
  readonly secondary: (PublicKey & { readonly generation: number }) | undefined;
  readonly members: readonly { readonly machineId: string; readonly hasSecondary: boolean }[];
  readonly connections: {
    /** Still sealed to the present key. */
    readonly left: number;
    /** Of the first hundred of these, the ones whose owners have to enter them again. */
    readonly ofOwners: readonly string[];
  };
}

/**
 * A group's key is replaced: a member makes the next one, the members prove that they have it, what is sealed to
 * the present one is sealed anew, and then the next one becomes the present one. Source: job-dispatch.md 4.2.
 */
export class GroupRotation {
  readonly #repository: Repository;
  readonly #members: GroupMembers;
  readonly #resealing: Resealing;
  readonly #clock: Clock;

  constructor(of: {
    readonly repository: Repository;
    readonly commands: MachineCommands;
    readonly resealing: Resealing;
    readonly clock: Clock;
  }) {
    this.#repository = of.repository;
    this.#members = new GroupMembers(of.repository, of.commands, of.clock);
    this.#resealing = of.resealing;
    this.#clock = of.clock;
  }

  /** Asks for a new key. A member makes it, with somebody who knows the password: the server cannot. */
  async start(caller: Caller, groupId: string): Promise<Versioned<Group>> {
    const started = await this.#change(caller, groupId, 'group.rotation.start', ({ value }) => {
      if (value.key === undefined) throw new Problem('NotFound', 'the group has no key yet');
      if (value.rotation !== undefined) throw new Problem('VersionConflict', 'it is under way');
      const rotation = { startedAtMs: this.#clock.wallMs(), startedBy: caller.name };
      return { ...value, rotation };
    });
    await this.#members.tell(started.value, 'rotate-group-key');
    return started;
  }

  /** Only while nothing is sealed to the next key. */
  async cancel(caller: Caller, groupId: string): Promise<Versioned<Group>> {
    const cancelled = await this.#change(
      caller,
      groupId,
      'group.rotation.cancel',
      ({ value }, draft) => {
        const { secondary } = requireRotation(value);
        const kid = secondary?.publicKey.kid;
        if (kid !== undefined) draft.below(sealedIndex(kid), 1, new Problem('KeyInUse'));
        draft.drop(ROTATIONS_INDEX, `group:${groupId}`);
        return { ...value, rotation: undefined };
      },
    );
    await this.#members.tell(cancelled.value, 'group-key-changed');
    return cancelled;
  }

  /** The next key and its package, one generation behind the present one's. There is one for each rotation. */
  async putSecondary(
    actor: GroupActor,
    groupId: string,
    generation: number | undefined,
    body: unknown,
  ): Promise<Versioned<Group>> {
    if (generation === undefined) throw new Problem('PreconditionRequired');
    const request = parseBody(keyPackageSchema, body);
    const publicKey = await checkedKey(request.point, 'point');
    const put = await this.#repository.change(async () => {
      const group = await groupFor(this.#repository, actor, groupId);
      await requireMember(this.#repository, actor, group);
      const rotation = requireRotation(group.value);
      if (group.value.key?.package.generation !== generation || rotation.secondary !== undefined) {
        throw new Problem('PreconditionFailed');
      }
      const isNew = !kidsOf(group.value).includes(publicKey.kid);
      const fits = { groupId, publicKey, generation: generation + 1, isKeyFitting: isNew };
      requireFitting(request.package, fits);
      const nowMs = this.#clock.wallMs();
      const by = nameOf(actor);
      const secondary: GroupKey = {
        publicKey,
        package: request.package,
        createdAtMs: nowMs,
        passwordChangedAtMs: nowMs,
        passwordChangedBy: by,
      };
      const value = { ...group.value, rotation: { ...rotation, secondary } };
      const draft = new Draft()
        .replace(GROUP, group, value)
        .add(ROTATIONS_INDEX, `group:${groupId}`, nowMs);
      const details = { kid: publicKey.kid, generation: generation + 1 };
      audit(draft, { atMs: nowMs, action: 'group.key.secondary', by, object: groupId, details });
      return { draft, answer: { id: groupId, version: group.version + 1, value } };
    });
    await this.#members.tell(put.value, 'group-key-changed');
    return put;
  }

  /** Undefined: none is under way. */
  async view(caller: Caller, groupId: string): Promise<RotationView | undefined> {
    const group = await this.#get(caller, 'view', groupId);
    const { key, rotation } = group.value;
    if (rotation === undefined || key === undefined) return undefined;
    const { startedAtMs, startedBy, secondary } = rotation;
    const index = sealedIndex(key.publicKey.kid);
    const [members, left, entries] = await Promise.all([
      this.#members.of(groupId),
      this.#repository.count(index),
      this.#repository.range(index, { limit: SHOWN_CONNECTIONS_MAX }),
    ]);
    const ids = entries.map(({ member }) => member);
    const connections = await this.#repository.getMany(CONNECTION, ids);
    const kid = secondary?.publicKey.kid;
    return {
      startedAtMs,
      startedBy,
      secondary:
        secondary === undefined
          ? undefined
          : { ...secondary.publicKey, generation: secondary.package.generation },
      members: members.map(({ id, value }) => ({
        machineId: id,
        hasSecondary: kid !== undefined && holdsKid(value.group, kid),
      })),
      connections: {
        left,
        ofOwners: connections.filter(({ value }) => !value.mayReseal).map(({ id }) => id),
      },
    };
  }

  /**
   * Has a member that is there and has both keys seal anew what may be. Throws `NoListenerConnected` when there
   * is none. Safe to call again: what is done is not done twice.
   */
  async reseal(caller: Caller, groupId: string): Promise<Resealed> {
    const group = await this.#get(caller, 'share', groupId);
    return this.resealNow(group, caller.name);
  }

  /** Without asking for rights: the rotation was started by who had them. */
  async resealNow(group: Versioned<Group>, by: string): Promise<Resealed> {
    const { secondary } = requireRotation(group.value);
    const from = group.value.key?.publicKey;
    const to = secondary?.publicKey;
    if (from === undefined || to === undefined) {
      throw new Problem('NotFound', 'no member has made the next key yet');
    }
    const members = await this.#members.present(await this.#members.of(group.id));
    const able = members.filter(
      ({ value }) => holdsKid(value.group, from.kid) && holdsKid(value.group, to.kid),
    );
    const target = { kind: 'group', id: group.id } as const;
    let why = new Problem('NoListenerConnected', 'no member that has both keys is there');
    for (const { id: machineId } of able) {
      try {
        return await this.#resealing.reseal({ target, from, to, machineId, by });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        why = error;
      }
    }
    throw why;
  }

  /**
   * The next key becomes the present one. Throws `KeyInUse` while connections are sealed to the old key, unless
   * these are to be suspended. Members without the new key are offered nothing until they have proved it.
   */
  async promote(caller: Caller, groupId: string, body: unknown): Promise<Versioned<Group>> {
    const { suspendRest, graceDays } = parseBody(groupPromotionSchema, body ?? {});
    const before = await this.#get(caller, 'share', groupId);
    const kid = before.value.key?.publicKey.kid ?? '';
    await this.#requireHolder(before.value);
    if (suspendRest) {
      await suspendSealedTo(this.#repository, this.#clock, { kid, by: caller.name });
    }
    const promoted = await this.#change(
      caller,
      groupId,
      'group.rotation.promote',
      ({ value }, draft) => {
        const { secondary } = requireRotation(value);
        const old = value.key?.publicKey;
        if (secondary === undefined || old === undefined) throw noSecondary();
        const nowMs = this.#clock.wallMs();
        const dropAtMs = nowMs + graceDays * DAY_MS;
        const former = { publicKey: old, replacedAtMs: nowMs, dropAtMs };
        const formerKeys = [...(value.formerKeys ?? []), former];
        draft.below(sealedIndex(old.kid), 1, new Problem('KeyInUse'));
        draft.drop(ROTATIONS_INDEX, `group:${groupId}`);
        draft.add(FORMER_KEYS_INDEX, `group:${groupId}`, firstDrop(formerKeys));
        return { ...value, key: secondary, rotation: undefined, formerKeys };
      },
    );
    await this.#members.tell(promoted.value, 'group-key-changed');
    return promoted;
  }

  /** Forgets former keys whose grace is over, and tells the members to do so too. */
  async dropFormer(groupId: string): Promise<void> {
    const after = await this.#repository.change(async () => {
      const draft = new Draft();
      const member = `group:${groupId}`;
      const before = await this.#repository.get(GROUP, groupId);
      const nowMs = this.#clock.wallMs();
      const formerKeys = (before?.value.formerKeys ?? []).filter(key => key.dropAtMs > nowMs);
      if (formerKeys.length === 0) draft.drop(FORMER_KEYS_INDEX, member);
      else draft.add(FORMER_KEYS_INDEX, member, firstDrop(formerKeys));
      if (before === undefined) return { draft, answer: undefined };
      const value = { ...before.value, formerKeys };
      draft.replace(GROUP, before, value);
      audit(draft, { atMs: nowMs, action: 'group.key.drop', by: 'system', object: groupId });
      return { draft, answer: value };
    });
    if (after !== undefined) await this.#members.tell(after, 'group-key-changed');
  }

  /** Somebody must be able to open what is sealed from now on. */
  async #requireHolder(group: Group): Promise<void> {
    const kid = requireRotation(group).secondary?.publicKey.kid;
    if (kid === undefined) throw noSecondary();
    const members = await this.#members.of(group.id);
    if (members.some(({ value }) => holdsKid(value.group, kid))) return;
    throw new Problem('MachineRequiresGroupKey', 'no member has proved the next key');
  }

  async #get(caller: Caller, action: Action, id: string): Promise<Versioned<Group>> {
    requireIn(caller, 'view');
    const group = await this.#repository.get(GROUP, id);
    if (group === undefined) throw new Problem('MachineGroupNotFound');
    requireMay(caller, action, group.value);
    return group;
  }

  #change(
    caller: Caller,
    id: string,
    action: string,
    change: (before: Versioned<Group>, draft: Draft) => Group,
  ): Promise<Versioned<Group>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, 'share', id);
      const draft = new Draft();
      const value = change(before, draft);
      const nowMs = this.#clock.wallMs();
      draft.replace(GROUP, before, value).add(`wake-group:${id}`, 'at', nowMs);
      const details = { kid: value.key?.publicKey.kid ?? '' };
      audit(draft, { atMs: nowMs, action, by: caller.name, object: id, details });
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }
}

function requireRotation({ rotation }: Group): NonNullable<Group['rotation']> {
  if (rotation === undefined) throw new Problem('VersionConflict', 'no rotation is under way');
  return rotation;
}

function noSecondary(): Problem {
  return new Problem('NotFound', 'no member has made the next key yet');
}

function firstDrop(keys: NonNullable<Group['formerKeys']>): number {
  return Math.min(...keys.map(({ dropAtMs }) => dropAtMs));
}
