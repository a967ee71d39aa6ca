import type { Command } from 'commander';
import { addAdminAddress, addAdminOptions, type AdminOptions } from './admin-client.ts';
import type { CommandContext } from './context.ts';
import type { DrainOptions } from './drain.ts';
import type { HycoSettings } from './hyco.ts';
import type { CreateRuleOptions, KeysOptions, RenewOptions } from './keys.ts';
import type { StatusOptions } from './status.ts';

// `halfway hyco` and `halfway keys`: the words of `az relay hyco` and of its authorization-rule keys.

/** Adds the commands that look at a running relay, and end it. */
export function addOperatorCommands(program: Command, context: CommandContext): void {
  const status = command(program, 'status', 'show a running relay, and the cluster it is in')
    .option('--watch', 'show it again every second, until interrupted')
    .option('--json', 'print JSON; with --watch one line each second');
  addAdminAddress(status)
    .addHelpText('after', STATUS_EXAMPLES)
    .action(async (values: StatusOptions) => {
      await (await import('./status.ts')).runStatus(values, context);
    });
  const drain = command(program, 'drain', 'end a running relay gently, as SIGTERM does')
    .option('--no-wait', 'return at once, not when it has ended')
    .option('-q, --quiet', 'no progress on standard error');
  addAdminAddress(drain)
    .addHelpText('after', DRAIN_EXAMPLES)
    .action(async (values: DrainOptions) => {
      await (await import('./drain.ts')).runDrain(values, context);
    });
}

/** Adds the commands that change what a running relay serves. */
export function addManagementCommands(program: Command, context: CommandContext): void {
  const hyco = group(program, 'hyco', 'hybrid connections of a running relay', HYCO_EXAMPLES);
  addAdminOptions(command(hyco, 'list', 'list them')).action(async (values: AdminOptions) => {
    await (await import('./hyco.ts')).runHycoList(values, context);
  });
  addAdminOptions(named(hyco, 'show', 'show one')).action(
    async (name: string, values: AdminOptions) => {
      await (await import('./hyco.ts')).runHycoShow(name, values, context);
    },
  );
  addSettings(named(hyco, 'create', 'create one')).action(
    async (name: string, values: HycoSettings) => {
      await (await import('./hyco.ts')).runHycoCreate(name, values, context);
    },
  );
  addSettings(named(hyco, 'update', 'change what is given of one')).action(
    async (name: string, values: HycoSettings) => {
      await (await import('./hyco.ts')).runHycoUpdate(name, values, context);
    },
  );
  addAdminOptions(
    named(hyco, 'delete', 'delete one: its listeners and connections are closed with 1001'),
  ).action(async (name: string, values: AdminOptions) => {
    await (await import('./hyco.ts')).runHycoDelete(name, values, context);
  });

  const keys = group(program, 'keys', 'authorization rules and their keys', KEYS_EXAMPLES);
  addKeysOptions(
    command(keys, 'list', 'list the rules; with RULE, its keys and connection strings'),
  )
    .argument('[RULE]', 'the rule whose keys to print')
    .action(async (rule: string | undefined, values: KeysOptions) => {
      await (await import('./keys.ts')).runKeysList(rule, values, context);
    });
  addKeysOptions(ruled(keys, 'create', 'create a rule with two new keys'))
    .requiredOption('--rights <RIGHTS>', 'Listen, Send and Manage, separated by commas')
    .option('--show', 'print its keys')
    .action(async (rule: string, values: CreateRuleOptions) => {
      await (await import('./keys.ts')).runKeysCreate(rule, values, context);
    });
  addKeysOptions(ruled(keys, 'renew', 'replace one key of a rule; the other one goes on'))
    .option('--key <WHICH>', 'primary or secondary')
    .option('--key-value-file <FILE>', 'file with the new key ("-": standard input); else random')
    .option('--show', 'print the keys')
    .action(async (rule: string, values: RenewOptions) => {
      await (await import('./keys.ts')).runKeysRenew(rule, values, context);
    });
  addKeysOptions(ruled(keys, 'delete', 'delete a rule and its keys')).action(
    async (rule: string, values: KeysOptions) => {
      await (await import('./keys.ts')).runKeysDelete(rule, values, context);
    },
  );
}

function group(program: Command, name: string, summary: string, examples: string): Command {
  const described = `${summary.slice(0, 1).toUpperCase()}${summary.slice(1)}.`;
  return program
    .command(name)
    .summary(summary)
    .description(described)
    .addHelpText('after', examples);
}

function command(parent: Command, name: string, summary: string): Command {
  return parent.command(name).summary(summary).description(summary);
}

function named(parent: Command, name: string, summary: string): Command {
  return command(parent, name, summary).argument('<NAME>', 'the hybrid connection');
}

function ruled(parent: Command, name: string, summary: string): Command {
  return command(parent, name, summary).argument('<RULE>', 'the authorization rule');
}

function addSettings(parent: Command): Command {
  return addAdminOptions(parent)
    .option(
      '--requires-client-authorization <BOOLEAN>',
      'whether senders need a token: true (the default of create) or false',
    )
    .option('--user-metadata <TEXT>', 'a text that is kept with it, at most 1024 characters');
}

function addKeysOptions(parent: Command): Command {
  return addAdminOptions(parent).option(
    '--hyco <NAME>',
    "a rule of this hybrid connection, instead of the namespace's",
  );
}

const STATUS_EXAMPLES = `
Shows listeners, senders and each hybrid connection; the nodes of the cluster, with the state of the link to
each; the worker processes. Exit code 0 when an answer came, whether it is ready or not; 1 otherwise.

Examples:
  halfway status
  halfway status --watch
  halfway status --json --admin-url http://127.0.0.1:9091`;

const DRAIN_EXAMPLES = `
The relay takes no new work, asks its listeners to move to other nodes, lets open connections finish until
--drain-timeout-ms of its own, and ends with exit code 0. Whatever supervises it may start it again.

Examples:
  halfway drain
  halfway drain --no-wait --admin-url http://127.0.0.1:9091`;

const HYCO_EXAMPLES = `
What the config file of the server defines is listed, but changed only there.

Examples:
  halfway hyco create orders/eu --user-metadata 'the european shop'
  halfway hyco update orders/eu --requires-client-authorization false
  halfway hyco list --json
  halfway hyco delete orders/eu`;

const KEYS_EXAMPLES = `
A rule has two keys, so that one can be replaced while the other is in use: move all programs to the
secondary key, renew the primary one, move them back, renew the secondary one.

Examples:
  halfway keys create shop --hyco orders/eu --rights Listen
  halfway keys list shop --hyco orders/eu
  halfway keys renew shop --hyco orders/eu --key primary`;
