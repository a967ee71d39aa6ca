import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, type Caller } from './access.ts';
import { audit } from './audit.ts';
import type { CommandAnswer, MachineCommands } from './machine-commands.ts';
import type { Machines } from './machines.ts';
import { Problem } from './problem.ts';
import { MACHINE, type Machine } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';

/** What people have machines do at once. */
export class MachineOperations {
  readonly #repository: Repository;
  readonly #machines: Machines;
  readonly #commands: MachineCommands;
  readonly #clock: Clock;

  constructor(of: {
    readonly repository: Repository;
    readonly machines: Machines;
    readonly commands: MachineCommands;
    readonly clock: Clock;
  }) {
    this.#repository = of.repository;
    this.#machines = of.machines;
    this.#commands = of.commands;
    this.#clock = of.clock;
  }

  /** As `Machines.drain`, and the machine is told, so that it can say so to who sits at it. */
  async drain(caller: Caller, id: string): Promise<Versioned<Machine>> {
    const machine = await this.#machines.drain(caller, id);
    await this.#commands.tell(id, 'drain');
    return machine;
  }

  /** What the machine finds out about itself; its own words. Throws what `MachineCommands.send` throws. */
  async diagnostics(caller: Caller, id: string): Promise<CommandAnswer> {
    requireIn(caller, 'view');
    const machine = await this.#repository.get(MACHINE, id);
    if (machine === undefined) throw new Problem('MachineNotFound');
    requireMay(caller, 'edit', machine.value);
    await this.#repository.change(async () => {
      const entry = { atMs: this.#clock.wallMs(), action: 'machine.diagnostics', by: caller.name };
      return Promise.resolve({
        draft: audit(new Draft(), { ...entry, object: id }),
        answer: undefined,
      });
    });
    return this.#commands.send(id, 'collect-diagnostics');
  }
}
