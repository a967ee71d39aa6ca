import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, withGrant, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { newId, parseBody, requireVersion } from './checks.ts';
import { repetitionOf } from './idempotency.ts';
import { FORMER_KEYS_INDEX, ROTATIONS_INDEX } from './key-retirement.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import {
  descriptionSchema,
  grantSchema,
  GROUP,
  MACHINE,
  nameSchema,
  principalSchema,
  TENANT,
  type Grant,
  type Group,
} from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { membersIndex, queueIndex } from './run-indexes.ts';
import { failWaiting } from './waiting-runs.ts';

const GROUPS_INDEX = 'groups';
const MEMBERS_AT_A_TIME = 50;

export const newGroupSchema = v.strictObject({
  name: nameSchema,
  description: v.optional(descriptionSchema, ''),
  lookAhead: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(50)), 0),
});
export const groupPatchSchema = v.strictObject({
  name: v.optional(nameSchema),
  description: v.optional(descriptionSchema),
  lookAhead: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(50))),
  maintenance: v.optional(v.boolean()),
});

export interface GroupView {
  readonly group: Versioned<Group>;
  /** `NeedsKey`: no machine has joined yet. */
  readonly state: 'NeedsKey' | 'Active' | 'Maintenance';
  readonly members: readonly string[];
  readonly waiting: number;
}

/** Machine groups as people see and set them. Keys and membership are in files of their own. */
export class Groups {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;

  constructor(repository: Repository, changes: RunChanges, clock: Clock) {
    this.#repository = repository;
    this.#changes = changes;
    this.#clock = clock;
  }

  async create(caller: Caller, body: unknown, key?: string): Promise<Versioned<Group>> {
    requireIn(caller, 'make');
    const request = parseBody(newGroupSchema, body);
    return this.#repository.change(async () => {
      const nowMs = this.#clock.wallMs();
      const about = { key, caller: caller.name, kind: 'group', body };
      const repetition = await repetitionOf(this.#repository, about, nowMs);
      if (repetition.resourceId !== undefined) {
        const group = await this.#get(caller, 'view', repetition.resourceId);
        return { draft: new Draft(), answer: group };
      }
      const id = newId();
      const value: Group = {
        ...request,
        id,
        tenant: TENANT,
        owner: caller.name,
        access: {},
        createdAtMs: nowMs,
        createdBy: caller.name,
        isInMaintenance: false,
      };
      const draft = new Draft().create(GROUP, id, value).add(GROUPS_INDEX, id, nowMs);
      repetition.remember(draft, id);
      audit(draft, { atMs: nowMs, action: 'group.create', by: caller.name, object: id });
      return { draft, answer: { id, version: 1, value } };
    });
  }

  async get(caller: Caller, id: string): Promise<GroupView> {
    return this.#view(await this.#get(caller, 'view', id));
  }

  async list(
    caller: Caller,
    query: PageQuery,
  ): Promise<{ readonly items: readonly GroupView[]; readonly next: string | undefined }> {
    requireIn(caller, 'view');
    const from = { kind: GROUP, index: GROUPS_INDEX };
    const { items, next }: Page<Group> = await pageOf(this.#repository, from, query);
    return { items: await Promise.all(items.map(group => this.#view(group))), next };
  }

  async patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Group>> {
    const { name, description, lookAhead, maintenance } = parseBody(groupPatchSchema, body);
    return this.#change(caller, id, 'group.patch', 'edit', before => {
      requireVersion(before, ifMatch);
      const { value } = before;
      return {
        ...value,
        name: name ?? value.name,
        description: description ?? value.description,
        lookAhead: lookAhead ?? value.lookAhead,
        isInMaintenance: maintenance ?? value.isInMaintenance,
      };
    });
  }

  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Group>> {
    const name = parseBody(principalSchema, principal);
    const given = parseBody(v.optional(grantSchema), grant);
    const action = `group.access.${given ?? 'none'}:${name}`;
    return this.#change(caller, id, action, 'share', ({ value }) => ({
      ...value,
      access: withGrant(value.access, name, given),
    }));
  }

  /** Members leave, what waits for it fails, its key package is gone. */
  async delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void> {
    await this.#repository.change(async () => {
      const group = await this.#get(caller, 'delete', id);
      requireVersion(group, ifMatch);
      const draft = new Draft().remove(GROUP, group).drop(GROUPS_INDEX, id);
      for (const member of await this.#members(id)) {
        const machine = await this.#repository.get(MACHINE, member);
        if (machine?.value.group?.id !== id) continue;
        draft.replace(MACHINE, machine, { ...machine.value, group: undefined });
      }
      for (const index of [ROTATIONS_INDEX, FORMER_KEYS_INDEX]) draft.drop(index, `group:${id}`);
      draft.clearIndex(membersIndex(id)).clearIndex(`wake-group:${id}`).clearIndex(`fetches:${id}`);
      const details = { kid: group.value.key?.publicKey.kid ?? '' };
      const entry = { atMs: this.#clock.wallMs(), action: 'group.delete', by: caller.name };
      audit(draft, { ...entry, object: id, details });
      return { draft, answer: undefined };
    });
    const queue = queueIndex({ kind: 'group', id });
    await failWaiting(this.#repository, this.#changes, queue, { code: 'MachineGroupNotFound' });
  }

  async #view(group: Versioned<Group>): Promise<GroupView> {
    const { id, value } = group;
    const [members, waiting] = await Promise.all([
      this.#members(id),
      this.#repository.count(queueIndex({ kind: 'group', id })),
    ]);
    const active = value.isInMaintenance ? 'Maintenance' : 'Active';
    return { group, state: value.key === undefined ? 'NeedsKey' : active, members, waiting };
  }

  async #members(id: string): Promise<readonly string[]> {
    const entries = await this.#repository.range(membersIndex(id), { limit: MEMBERS_AT_A_TIME });
    return entries.map(({ member }) => member);
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
    needed: Action,
    change: (before: Versioned<Group>) => Group,
  ): Promise<Versioned<Group>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, needed, id);
      const value = change(before);
      const nowMs = this.#clock.wallMs();
      const draft = new Draft().replace(GROUP, before, value).add(`wake-group:${id}`, 'at', nowMs);
      audit(draft, { atMs: nowMs, action, by: caller.name, object: id });
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }
}
