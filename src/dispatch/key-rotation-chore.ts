import type { Clock } from '../base/clock.ts';
import type { GroupRotation } from './group-rotation.ts';
import { FORMER_KEYS_INDEX, ROTATIONS_INDEX } from './key-retirement.ts';
import type { MachineKeys } from './machine-keys.ts';
import { oneByOne } from './one-by-one.ts';
import { Problem } from './problem.ts';
import { GROUP } from './records.ts';
import { Draft, type Repository } from './repository.ts';

const AT_A_TIME = 100;

/** Brings rotations on as machines come: what may be sealed anew is, and keys whose grace is over are dropped. */
export class KeyRotationChore {
  readonly #repository: Repository;
  readonly #groups: GroupRotation;
  readonly #machines: MachineKeys;
  readonly #clock: Clock;

  constructor(of: {
    readonly repository: Repository;
    readonly groups: GroupRotation;
    readonly machines: MachineKeys;
    readonly clock: Clock;
  }) {
    this.#repository = of.repository;
    this.#groups = of.groups;
    this.#machines = of.machines;
    this.#clock = of.clock;
  }

  async sweep(): Promise<void> {
    const rotations = await this.#repository.all(ROTATIONS_INDEX, { limit: AT_A_TIME });
    await oneByOne(rotations, ({ member }) => this.#tolerant(() => this.#advance(member)));
    const due = { to: this.#clock.wallMs(), limit: AT_A_TIME };
    const former = await this.#repository.range(FORMER_KEYS_INDEX, due);
    await oneByOne(former, ({ member }) => this.#tolerant(() => this.#drop(member)));
  }

  async #advance(member: string): Promise<void> {
    const [kind, id = ''] = member.split(':');
    if (kind === 'machine') {
      await this.#machines.advance(id);
      return;
    }
    const group = await this.#repository.get(GROUP, id);
    if (group?.value.rotation?.secondary !== undefined) {
      await this.#groups.resealNow(group, group.value.rotation.startedBy);
      return;
    }
    await this.#repository.change(async () => {
      const draft = new Draft().drop(ROTATIONS_INDEX, member);
      return Promise.resolve({ draft, answer: undefined });
    });
  }

  async #drop(member: string): Promise<void> {
    const [kind, id = ''] = member.split(':');
    await (kind === 'machine' ? this.#machines.dropFormer(id) : this.#groups.dropFormer(id));
  }

  /** A machine that is away, or says no, is asked again in the next round. */
  async #tolerant(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }
}
