import { may, requireMay, type Caller } from './access.ts';
import { Problem } from './problem.ts';
import { GROUP, MACHINE, type Group } from './records.ts';
import type { Repository, Versioned } from './repository.ts';
import { membersIndex } from './run-indexes.ts';

/** Who acts on a group: a person, or a machine on its own behalf, with what its owner may besides. */
export type GroupActor =
  | { readonly type: 'person'; readonly caller: Caller }
  | { readonly type: 'machine'; readonly machineId: string; readonly owner: Caller | undefined };

/** The group, for whoever may add machines: who may change it, and a machine whose code says so or that is in it. */
export async function groupFor(
  repository: Repository,
  actor: GroupActor,
  id: string,
): Promise<Versioned<Group>> {
  const group = await repository.get(GROUP, id);
  if (group === undefined) throw new Problem('MachineGroupNotFound');
  if (actor.type === 'person') {
    requireMay(actor.caller, 'edit', group.value);
    return group;
  }
  const machine = await repository.get(MACHINE, actor.machineId);
  const isLetIn = machine?.value.mayJoin === id || machine?.value.group?.id === id;
  const isOwners = actor.owner !== undefined && may(actor.owner, 'edit', group.value);
  if (!isLetIn && !isOwners) {
    throw new Problem('AccessDenied', 'the owner of the machine may not add machines to the group');
  }
  return group;
}

/** Only who has the key, or may change the group, puts a key under a password. */
export async function requireMember(
  repository: Repository,
  actor: GroupActor,
  group: Versioned<Group>,
): Promise<void> {
  if (actor.type === 'person') {
    requireMay(actor.caller, 'edit', group.value);
    return;
  }
  const members = membersIndex(group.id);
  const isMember = (await repository.score(members, actor.machineId)) !== undefined;
  if (!isMember) throw new Problem('AccessDenied', 'the machine is no member of the group');
}

export function requireSelf(
  actor: Extract<GroupActor, { type: 'machine' }>,
  machineId: string,
): void {
  if (actor.machineId !== machineId) {
    throw new Problem('AccessDenied', 'machines act for themselves');
  }
}

export function nameOf(actor: GroupActor): string {
  return actor.type === 'person' ? actor.caller.name : `machine:${actor.machineId}`;
}
