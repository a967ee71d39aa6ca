import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { addApiOptions, type ApiOptions } from './api-options.ts';
import type { Noun } from './shared-records.ts';

export const HELP_GROUP = 'Job dispatch:';

/** The command of a noun, made when nobody has made it yet. */
export function nounCommand(
  program: Command,
  name: string,
  summary: string,
  examples: string,
): Command {
  const known = program.commands.find(command => command.name() === name);
  if (known !== undefined) return known.addHelpText('after', examples);
  return program
    .command(name)
    .summary(summary)
    .description(`${summary.slice(0, 1).toUpperCase()}${summary.slice(1)}.`)
    .helpGroup(HELP_GROUP)
    .addHelpText('after', examples);
}

/** A command below a noun, with the options of all that speak to job dispatch. */
export function verb(noun: Command, usage: string, summary: string): Command {
  return addApiOptions(noun.command(usage).summary(summary).description(summary));
}

/** For options that may be given several times. */
export function append(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, value];
}

/** `show`, `delete`, and, of what can be shared, `grant` and `revoke`. */
export function addSharedVerbs(
  noun: Command,
  name: Noun,
  what: { readonly deleting: string; readonly grants: string },
  context: CommandContext,
): void {
  verb(noun, 'show', 'show one')
    .argument('<NAME>', 'its name or id')
    .action(async (text: string, values: ApiOptions) => {
      await (await import('./shared-records.ts')).runShow(name, text, values, context);
    });
  verb(noun, 'delete', what.deleting)
    .argument('<NAME>', 'its name or id')
    .action(async (text: string, values: ApiOptions) => {
      await (await import('./shared-records.ts')).runDelete(name, text, values, context);
    });
  verb(noun, 'grant', 'give somebody a right on one')
    .argument('<NAME>', 'its name or id')
    .argument('<PRINCIPAL>', 'user:ID or token:ID')
    .argument('<GRANT>', what.grants)
    .action(async (text: string, principal: string, grant: string, values: ApiOptions) => {
      const { runAccess } = await import('./shared-records.ts');
      await runAccess(name, text, principal, grant, values, context);
    });
  verb(noun, 'revoke', 'take it away')
    .argument('<NAME>', 'its name or id')
    .argument('<PRINCIPAL>', 'user:ID or token:ID')
    .action(async (text: string, principal: string, values: ApiOptions) => {
      const { runAccess } = await import('./shared-records.ts');
      await runAccess(name, text, principal, undefined, values, context);
    });
}

/** What a run is to be: of `run start`, and of what starts runs by itself. */
export function addRunRequestOptions(command: Command): Command {
  return command
    .requiredOption('--connection <NAME>', 'the connection to run with: its name or id')
    .option('--job <FILE>', 'the job as JSON ("-": standard input) in the place of a program')
    .option('--ref <TEXT>', "what the job is called; the program's name unless it is given")
    .option('--mode <MODE>', 'unattended, or attended: with whoever is signed in there')
    .option('--priority <WHICH>', 'high or normal')
    .option('--input <NAME=VALUE>', 'an input; NAME=@FILE reads it; may be repeated', append)
    .option('--inputs <FILE>', 'inputs as a JSON object ("-": standard input)')
    .option('--timeout <TIME>', 'how long it may run: 90s, 30m, 2h (the default), at most 24h')
    .option('--queue-timeout <TIME>', 'how long it may wait: 1m or more, 12h unless it is given')
    .option('--when-offline <WHAT>', 'queue (the default), or fail when the machine is away')
    .option('--on-lost <WHAT>', 'fail (the default), or requeue: then it may run twice')
    .option('--attempts <N>', 'how often it may be started, with --on-lost requeue')
    .option('--label <NAME=VALUE>', 'what a machine must have; may be repeated', append)
    .option('--correlation-id <TEXT>', 'a text that is kept with the run')
    .option('--callback-url <URL>', 'where the result is posted to: https, a public host name');
}

/** How far a key is trusted that something is sealed to. */
export function addTrustOptions(command: Command): Command {
  return command
    .option('--fingerprint <WORDS>', 'the fingerprint that the key must have')
    .option('--accept-new-key', 'seal to a key that is not the one known for this target');
}

export const TRUST_HELP = `
What is sealed is sealed here, to the key of the machine or group, and the server cannot open it. The server tells
which key that is, so its fingerprint is shown: compare it with \`halfway machine status\` at the machine, or require
it by --fingerprint. Keys that were sealed to are kept (HALFWAY_STATE_DIR, or ~/.local/state/halfway), and another one
for the same target is refused until --accept-new-key or --fingerprint says that it is right.`;
