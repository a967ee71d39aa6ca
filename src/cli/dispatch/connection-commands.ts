import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { addSharedVerbs, addTrustOptions, nounCommand, TRUST_HELP, verb } from './command-parts.ts';
import type {
  ConnectionCreateOptions,
  ConnectionTestOptions,
  ConnectionUpdateOptions,
} from './connections.ts';
import type { TargetOptions } from './find-record.ts';

/** `halfway connection …`. */
export function addConnectionCommands(
  program: Command,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  const connection = nounCommand(
    program,
    'connection',
    'connections: accounts at machines, sealed here',
    EXAMPLES,
  );

  addAccountOptions(verb(connection, 'create', 'seal an account to a machine or a group'))
    .argument('[NAME]', 'what it is called; "ACCOUNT at MACHINE" unless it is given')
    .option('--signed-in', 'no account: attended runs, with whoever is signed in there')
    .addHelpText('after', CREATE_HELP)
    .action(async (name: string | undefined, values: ConnectionCreateOptions) => {
      const { runConnectionCreate } = await import('./connections.ts');
      await runConnectionCreate(name, values, context);
    });
  addAccountOptions(verb(connection, 'update', 'change one, or seal another account for it'))
    .argument('<CONNECTION>', 'its name or id')
    .option('--name <NAME>', 'what it is to be called')
    .addHelpText('after', TRUST_HELP)
    .action(async (text: string, values: ConnectionUpdateOptions) => {
      const { runConnectionUpdate } = await import('./connections.ts');
      await runConnectionUpdate(text, values, context);
    });
  verb(connection, 'list', 'list them')
    .option('--machine <NAME>', 'those of one machine')
    .option('--group <NAME>', 'those of one group')
    .action(async (values: ApiOptions & TargetOptions) => {
      await (await import('./connections.ts')).runConnectionList(values, context);
    });
  verb(connection, 'test', 'sign in with it and do nothing else; exit code 0 when it works')
    .argument('<NAME>', 'its name or id')
    .option('--machine <NAME>', 'at this machine of the group')
    .option('--every-member', 'at each machine of the group, one after the other')
    .action(async (text: string, values: ConnectionTestOptions) => {
      done(await (await import('./connections.ts')).runConnectionTest(text, values, context));
    });
  const deleting = 'delete one, with what is sealed in it; runs that wait for it fail';
  addSharedVerbs(connection, 'connection', { deleting, grants: 'use, edit or co-owner' }, context);
}

function addAccountOptions(command: Command): Command {
  return addTrustOptions(
    command
      .option('--machine <NAME>', 'the machine: its name or id')
      .option('--group <NAME>', 'the machine group: its name or id')
      .option('--user <ACCOUNT>', 'DOMAIN\\USER, .\\USER, USER@DOMAIN or USER')
      .option('--password-file <FILE>', 'file with the password; "-": standard input')
      .option('--vault-ref <REF>', 'no password: the machine itself looks it up in its vault')
      .option('--account-name <TEXT>', 'what people are shown of the account; else nothing is')
      .option('--may-reseal', 'machines may seal it to a new key of theirs')
      .option('--no-may-reseal', 'they may not (the default of create)'),
  );
}

const CREATE_HELP = `
The password is asked for at a terminal without being shown, else read from standard input, or from --password-file.
It is never an argument, and it never leaves this program unsealed. Whoever may use the connection can act as its
account.
${TRUST_HELP}

Examples:
  halfway connection create ann --machine desk-7 --user 'OFFICE\\ann'
  halfway connection create ann --machine desk-7 --user ann --password-file ann.password \\
    --fingerprint lusab-babad-gutih-tugad-…
  halfway connection create front-desk --machine desk-7 --signed-in`;

const EXAMPLES = `
Examples:
  halfway connection create ann --machine desk-7 --user 'OFFICE\\ann'
  halfway connection test ann
  halfway connection grant ann user:bob use
  halfway connection update ann --user 'OFFICE\\ann'     a new password
  halfway connection delete ann`;
