import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { addSharedVerbs, append, nounCommand, verb } from './command-parts.ts';
import type { GroupSetOptions, GroupSettings } from './groups.ts';
import type { PromoteOptions } from './keys.ts';
import type { MachineSetOptions } from './machines.ts';

/** `halfway machine …`, as people see machines, and `halfway group …`. */
export function addTargetCommands(program: Command, context: CommandContext): void {
  const machine = nounCommand(program, 'machine', 'machines that take runs', MACHINE_EXAMPLES);
  verb(machine, 'list', 'list all machines').action(async (values: ApiOptions) => {
    await (await import('./machines.ts')).runMachineList(values, context);
  });
  named(machine, 'set', 'change the settings of one')
    .option('--name <NAME>', 'what it is to be called')
    .option('--description <TEXT>', 'for people')
    .option('--label <NAME=VALUE>', 'all its labels; may be repeated', append)
    .option('--bots <N>', 'how many runs without a user it may have at once, at most 10')
    .option('--reuse-sessions <SWITCH>', 'on: the session of a run is kept for the next one')
    .option('--look-ahead <N>', 'how many behind a head that cannot start may go before it')
    .option('--maintenance <SWITCH>', 'on: nothing new is offered; off ends draining, too')
    .action(async (text: string, values: MachineSetOptions) => {
      await (await import('./machines.ts')).runMachineSet(text, values, context);
    });
  named(machine, 'drain', 'offer nothing new to one; what runs there goes on').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./machines.ts')).runMachineDrain(text, values, context);
    },
  );
  named(machine, 'echo', 'there and back through the relay').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./machines.ts')).runMachineEcho(text, values, context);
    },
  );
  named(machine, 'diagnostics', 'what the machine service says of itself, as JSON').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./machines.ts')).runMachineDiagnostics(text, values, context);
    },
  );
  addQueue(machine, 'machine', context);
  addPromotion(machine, 'machine', context);
  const deleting = 'delete one: its listener is closed, runs that wait for it fail';
  addSharedVerbs(machine, 'machine', { deleting, grants: 'use, edit or co-owner' }, context);

  const group = nounCommand(
    program,
    'group',
    'machine groups: machines that stand in for one another',
    GROUP_EXAMPLES,
  );
  addGroupSettings(verb(group, 'create', 'create one; machines join it from themselves'))
    .argument('<NAME>', 'what it is called')
    .action(async (name: string, values: GroupSettings) => {
      await (await import('./groups.ts')).runGroupCreate(name, values, context);
    });
  verb(group, 'list', 'list them').action(async (values: ApiOptions) => {
    await (await import('./groups.ts')).runGroupList(values, context);
  });
  addGroupSettings(named(group, 'set', 'change the settings of one'))
    .option('--name <NAME>', 'what it is to be called')
    .option('--maintenance <SWITCH>', 'on: nothing new is offered to its machines')
    .action(async (text: string, values: GroupSetOptions) => {
      await (await import('./groups.ts')).runGroupSet(text, values, context);
    });
  named(group, 'remove-member', 'take a machine out of one')
    .argument('<MACHINE>', 'its name or id')
    .action(async (text: string, member: string, values: ApiOptions) => {
      await (await import('./groups.ts')).runGroupRemoveMember(text, member, values, context);
    });
  addQueue(group, 'group', context);
  named(group, 'rotate-key', 'ask its machines for a new key').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./keys.ts')).runGroupKeyVerb('rotate-key', text, values, context);
    },
  );
  named(group, 'cancel-rotation', 'give that up, while nothing is sealed to the next key').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./keys.ts')).runGroupKeyVerb('cancel-rotation', text, values, context);
    },
  );
  named(
    group,
    'reseal',
    'have a machine seal credentials to the next key, where that is allowed',
  ).action(async (text: string, values: ApiOptions) => {
    await (await import('./keys.ts')).runGroupReseal(text, values, context);
  });
  addPromotion(group, 'group', context);
  const disbanding = 'delete one, with its key; runs that wait for it fail';
  addSharedVerbs(
    group,
    'group',
    { deleting: disbanding, grants: 'use, edit or co-owner' },
    context,
  );
}

function addQueue(noun: Command, kind: 'machine' | 'group', context: CommandContext): void {
  named(noun, 'queue', 'list what waits for it, in its order').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./groups.ts')).runQueue(kind, text, values, context);
    },
  );
  named(noun, 'fingerprint', 'print the fingerprint of the key that is sealed to').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./groups.ts')).runFingerprint(kind, text, values, context);
    },
  );
}

function addPromotion(noun: Command, kind: 'machine' | 'group', context: CommandContext): void {
  named(noun, 'promote-key', 'make the next key the present one')
    .option('--suspend-rest', 'connections that are not sealed to it do not run until edited')
    .action(async (text: string, values: PromoteOptions) => {
      await (await import('./keys.ts')).runPromoteKey(kind, text, values, context);
    });
}

function named(noun: Command, name: string, summary: string): Command {
  return verb(noun, name, summary).argument('<NAME>', 'its name or id');
}

function addGroupSettings(command: Command): Command {
  return command
    .option('--description <TEXT>', 'for people')
    .option('--look-ahead <N>', 'how many behind a head that cannot start may go before it');
}

const MACHINE_EXAMPLES = `
Examples for those who look after machines:
  halfway machine list
  halfway machine set desk-7 --maintenance on
  halfway machine fingerprint desk-7
  halfway machine queue desk-7`;

const GROUP_EXAMPLES = `
A group has a key that all its machines have: what is sealed to it opens at each of them. Machines join from
themselves, with the group's password: \`halfway machine join-group\` there.

Examples:
  halfway group create night-shift
  halfway group show night-shift
  halfway group remove-member night-shift desk-7`;
