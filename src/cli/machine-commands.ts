import type { Command } from 'commander';
import type { CommandContext } from './context.ts';
import { nounCommand } from './dispatch/command-parts.ts';
import type { DiagnoseOptions } from './machine/diagnose.ts';
import type { GroupOptions } from './machine/group.ts';
import type { MachineOptions } from './machine/open-machine.ts';
import type { RegisterOptions } from './machine/register.ts';
import type { RotateKeyOptions } from './machine/rotate-key.ts';
import type { RunMachineOptions } from './machine/run.ts';
import type { UnregisterOptions } from './machine/unregister.ts';
import { addWayOptions } from './route-options.ts';

/** `halfway machine …`, as it is called on the machine itself. */
export function addMachineCommands(
  program: Command,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  const machine = nounCommand(program, 'machine', 'machines that take runs', EXAMPLES);

  own(machine, 'register', 'on the machine: make this computer one')
    .option('--endpoint <URL>', 'https://HOST[:PORT] of the server (HALFWAY_ENDPOINT)')
    .option('--environment <NAME>', 'the environment (HALFWAY_ENVIRONMENT; default "default")')
    .option('--api-token-file <FILE>', 'file with your API token (HALFWAY_API_TOKEN[_FILE])')
    .option('--activation-code', 'ask for an activation code instead of an API token')
    .option(
      '--activation-code-file <FILE>',
      'file with an activation code ("-": standard input; HALFWAY_ACTIVATION_CODE[_FILE])',
    )
    .option('--name <NAME>', 'what it is to be called; the host name unless it is given')
    .option('--description <TEXT>', 'for people')
    .option('--labels <LIST>', 'NAME=VALUE, separated by commas')
    .option('--allowed-tenants <LIST>', 'tenants that may have this machine, now and later')
    .option('--force', 'take the place of the registration that this computer has')
    .option('--json', 'print JSON')
    .option('-q, --quiet', 'no notes on standard error')
    .addHelpText('after', REGISTER_HELP)
    .action(async (values: RegisterOptions) => {
      await (await import('./machine/register.ts')).runMachineRegister(values, context);
    });

  own(machine, 'run', 'on the machine: take runs, until a signal')
    .option('--transport <NAME>', 'auto, websocket or poll (default auto)')
    .option('--drain-timeout <TIME>', 'how long runs may go on after SIGTERM (default 30s)')
    .option('--session-host <NAME>', 'process, os-account or simulated (default process)')
    .option('--simulated-table <FILE>', 'users and sessions of the simulated host, as JSON')
    .option('--socket-folder <DIR>', 'for the sockets of runs; accounts of jobs must reach it')
    .option('--unattended <N>', 'runs without a user at once (default 1)')
    .option('--log-level <LEVEL>', 'debug, info, warn or error (default info)')
    .option('--log-format <FORMAT>', 'json or pretty (default json)')
    .addHelpText('after', RUN_HELP)
    .action(async (values: RunMachineOptions) => {
      done(await (await import('./machine/run.ts')).runMachine(values, context));
    });

  own(machine, 'status', 'on the machine: how it is; exit code 0 when it is online')
    .option('--json', 'print JSON')
    .action(async (values: MachineOptions) => {
      done(await (await import('./machine/status.ts')).runMachineStatus(values, context));
    });

  grouped(own(machine, 'join-group', 'on the machine: join a machine group'))
    .argument('<GROUP>', 'its id: halfway group list')
    .addHelpText('after', JOIN_HELP)
    .action(async (group: string, values: GroupOptions) => {
      await (await import('./machine/group.ts')).runJoinGroup(group, values, context);
    });
  grouped(own(machine, 'leave-group', 'on the machine: leave its group, delete its key')).action(
    async (values: GroupOptions) => {
      await (await import('./machine/group.ts')).runLeaveGroup(values, context);
    },
  );
  grouped(
    own(
      machine,
      'change-group-password',
      'on a machine of the group: another password for its key',
    ),
  ).action(async (values: GroupOptions) => {
    await (await import('./machine/group.ts')).runChangeGroupPassword(values, context);
  });

  grouped(
    own(machine, 'rotate-group-key', 'on a machine of the group: make its next key, or take it'),
  )
    .addHelpText('after', ROTATE_HELP)
    .action(async (values: GroupOptions) => {
      await (await import('./machine/group.ts')).runRotateGroupKey(values, context);
    });
  own(machine, 'rotate-key', 'on the machine: make its next encryption key')
    .option('--identity', 'another identity key instead, which counts at once')
    .option('--json', 'print JSON')
    .action(async (values: RotateKeyOptions) => {
      await (await import('./machine/rotate-key.ts')).runRotateKey(values, context);
    });

  own(machine, 'unregister', 'on the machine: delete it and its keys')
    .option('--local-only', 'delete only what is on this computer, without asking the server')
    .option('--json', 'print JSON')
    .action(async (values: UnregisterOptions) => {
      await (await import('./machine/unregister.ts')).runUnregister(values, context);
    });

  own(machine, 'diagnose', 'on the machine: find out what keeps it from its server')
    .option('--endpoint <URL>', 'the server, where nothing is registered (HALFWAY_ENDPOINT)')
    .option(
      '--api-token-file <FILE>',
      'to ask through the relay as well (HALFWAY_API_TOKEN[_FILE])',
    )
    .option('--json', 'print one JSON object')
    .addHelpText('after', DIAGNOSE_HELP)
    .action(async (values: DiagnoseOptions) => {
      done(await (await import('./machine/diagnose.ts')).runDiagnose(values, context));
    });
}

/** A command of the machine itself: where its state is, and the way to its server. */
function own(machine: Command, name: string, summary: string): Command {
  const command = machine.command(name).summary(summary).description(summary);
  return addWayOptions(
    command
      .option('--state <DIR>', 'folder with keys and journal (default: see `halfway machine run`)')
      .option(
        '--wrapping-key-file <FILE>',
        'file with the key that the private keys are wrapped by',
      ),
  );
}

function grouped(command: Command): Command {
  return command
    .option('--password-file <FILE>', 'file with the password ("-": standard input)')
    .option('--password', 'ask for a password instead of making one')
    .option(
      '--api-token-file <FILE>',
      "act in your name instead of the machine's (HALFWAY_API_TOKEN[_FILE])",
    )
    .option('--json', 'print JSON')
    .option('-q, --quiet', 'no notes on standard error');
}

const EXAMPLES = `
Examples on the machine itself:
  halfway machine register --endpoint https://relay.example.com --api-token-file token
  halfway machine run
  halfway machine status
  halfway machine diagnose`;

const REGISTER_HELP = `
Makes an identity key and an encryption key, which stay on this computer, and prints the fingerprint of the latter.
Who may register: by an API token (asked for at a terminal), or by an activation code. Neither is ever an argument,
where other users see it. Tenants on the list of --allowed-tenants, and in /etc/halfway/allowed-tenants (one a line)
where that file is, may have this machine; others are refused.`;

const RUN_HELP = `
State is kept in --state; without it in /var/lib/halfway-machine for root and the account halfway-machine, and in
$XDG_STATE_HOME/halfway-machine (~/.local/state/halfway-machine) for others. Files there are this account's alone.
Keys are wrapped by the systemd credential "machine-key" where there is one, or by --wrapping-key-file.

SIGTERM: no new runs, those in hand go on until --drain-timeout, and hellos with them; what then still runs is taken up
by the next start. A second signal ends at once. Exit code 78: not registered, or its state is not as it must be.`;

const JOIN_HELP = `
The first machine of a group makes the group's key, and a password for it, which is printed once (--password-file or
--password: one of your own). Later ones need that password, from --password-file, HALFWAY_GROUP_PASSWORD[_FILE],
or asked for. The password does not leave this computer.`;

const ROTATE_HELP = `
First somebody asks the server for a new key of the group. Then this, on each machine of the group: the first one makes
the key and its password, the others take it with that password. The server has credentials sealed anew by a machine that
has both keys, where their owners allow it, and promotes the key when somebody says so.`;

const DIAGNOSE_HELP = `
Run it as the account of the service, whose proxy and trust may differ from yours. It looks at name, TCP, proxy, TLS,
clock, relay, control plane, a large body, the registration, WebSocket, long-polling and the service, and tries each
destination that the server lists: Open or Closed. Exit code 0 without a failure, 1 otherwise.`;
