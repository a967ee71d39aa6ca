import type { Command } from 'commander';
import type { CommandContext } from './context.ts';
import { addAdministrationCommands } from './dispatch/administration-commands.ts';
import { addAutomationCommands } from './dispatch/automation-commands.ts';
import { addConnectionCommands } from './dispatch/connection-commands.ts';
import { addRunCommands } from './dispatch/run-commands.ts';
import { addTargetCommands } from './dispatch/target-commands.ts';

/**
 * Adds the commands of job dispatch for people, in the words of the REST resources. What a machine does on itself
 * (`machine register`, `machine run`) is added to the same `machine` command elsewhere.
 */
export function addDispatchCommands(
  program: Command,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  addRunCommands(program, context, done);
  addConnectionCommands(program, context, done);
  addTargetCommands(program, context);
  addAutomationCommands(program, context);
  addAdministrationCommands(program, context);
}
