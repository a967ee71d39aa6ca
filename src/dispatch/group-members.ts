import type { Clock } from '../base/clock.ts';
import { MACHINES_PER_GROUP_MAX } from '../jobs/limits.ts';
import type { MachineCommands } from './machine-commands.ts';
import { presenceStateOf } from './machine-state.ts';
import { MACHINE, PRESENCE, type Group, type Machine } from './records.ts';
import type { Repository, Versioned } from './repository.ts';
import { membersIndex } from './run-indexes.ts';

/** Who is in a group, who of them is there, and how they hear of its keys. */
export class GroupMembers {
  readonly #repository: Repository;
  readonly #commands: MachineCommands;
  readonly #clock: Clock;

  constructor(repository: Repository, commands: MachineCommands, clock: Clock) {
    this.#repository = repository;
    this.#commands = commands;
    this.#clock = clock;
  }

  async of(groupId: string): Promise<readonly Versioned<Machine>[]> {
    const query = { limit: MACHINES_PER_GROUP_MAX };
    const entries = await this.#repository.range(membersIndex(groupId), query);
    const ids = entries.map(({ member }) => member);
    return this.#repository.getMany(MACHINE, ids);
  }

  async present(machines: readonly Versioned<Machine>[]): Promise<readonly Versioned<Machine>[]> {
    const ids = machines.map(({ id }) => id);
    const presences = await this.#repository.getMany(PRESENCE, ids);
    const nowMs = this.#clock.wallMs();
    const there = presences.filter(({ value }) => presenceStateOf(value, nowMs) === 'Connected');
    const idsThere = new Set(there.map(({ id }) => id));
    return machines.filter(({ id }) => idsThere.has(id));
  }

  /** Members that are not there look for themselves when they come. */
  async tell(group: Group, name: 'rotate-group-key' | 'group-key-changed'): Promise<void> {
    const args = {
      groupId: group.id,
      primaryKid: group.key?.publicKey.kid,
      secondaryKid: group.rotation?.secondary?.publicKey.kid,
      formerKids: (group.formerKeys ?? []).map(({ publicKey }) => publicKey.kid),
    };
    const members = await this.present(await this.of(group.id));
    await Promise.all(members.map(({ id }) => this.#commands.tell(id, name, args)));
  }
}
