import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import {
  addRunRequestOptions,
  addTrustOptions,
  append,
  nounCommand,
  TRUST_HELP,
  verb,
} from './command-parts.ts';
import type { RunStartOptions } from './run-start.ts';
import type { RunListOptions } from './runs.ts';

/** `halfway run …`. */
export function addRunCommands(
  program: Command,
  context: CommandContext,
  done: (exitCode: number) => void,
): void {
  const run = nounCommand(program, 'run', 'runs: start them, look at them, end them', EXAMPLES);

  addTrustOptions(addRunRequestOptions(verb(run, 'start', 'queue a run')))
    .argument('[COMMAND...]', 'after --: the program and its arguments')
    .option(
      '--secret-input <NAME=@FILE>',
      'an input that is sealed here; NAME=- reads standard input, NAME asks; may be repeated',
      append,
    )
    .option('--parent <RUN>', 'the run that this one belongs to; it is cancelled with it')
    .option('--idempotency-key <KEY>', 'the same key and request make one run, however often')
    .option('--wait', 'wait until it is over')
    .option('--follow', 'wait, and write its log to standard output as it comes')
    .addHelpText('after', START_HELP)
    .action(async (command: readonly string[], values: RunStartOptions) => {
      const { runRunStart } = await import('./run-start.ts');
      done(await runRunStart(command, values, context));
    });

  verb(run, 'list', 'list runs, the latest first')
    .option('--state <STATE>', 'Queued, Running, Succeeded, Failed, …')
    .option('--connection <NAME>', 'those with one connection')
    .option('--machine <NAME>', 'those of one machine')
    .option('--group <NAME>', 'those of one group')
    .option('--owner <PRINCIPAL>', 'those that somebody asked for: user:ID or token:ID')
    .option('--limit <N>', 'how many, at most 200', '50')
    .action(async (values: RunListOptions) => {
      await (await import('./runs.ts')).runRunList(values, context);
    });

  one(run, 'show', 'show a run, what happened to it, and its outputs').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunShow(id, values, context);
    },
  );
  one(run, 'logs', "print a run's log")
    .option('-f, --follow', 'go on until the run is over')
    .action(async (id: string, values: ApiOptions & { readonly follow?: boolean }) => {
      done(await (await import('./runs.ts')).runRunLogs(id, values, context));
    });
  one(run, 'wait', 'wait until a run is over; exit code 0 when it succeeded').action(
    async (id: string, values: ApiOptions) => {
      done(await (await import('./runs.ts')).runRunWait(id, values, context));
    },
  );
  one(run, 'outputs', 'print what a run gave back, as JSON').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunOutputs(id, values, context);
    },
  );
  one(run, 'input', 'print what was asked for, as JSON').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunInput(id, values, context);
    },
  );
  one(run, 'cancel', 'end a run, and those that it started')
    .option('--mode <MODE>', 'stop: ask it, and end it 10 s later (the default); kill: at once')
    .action(async (id: string, values: ApiOptions & { readonly mode?: string }) => {
      await (await import('./runs.ts')).runRunCancel(id, values, context);
    });
  one(run, 'safe-stop', 'ask a run to end where it can').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunSafeStop(id, values, context);
    },
  );
  one(run, 'move-to-top', 'put a run that waits before all others').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunMove(id, 'move-to-top', values, context);
    },
  );
  one(run, 'undo-move', 'put it back to its old place').action(
    async (id: string, values: ApiOptions) => {
      await (await import('./runs.ts')).runRunMove(id, 'undo-move', values, context);
    },
  );
  one(run, 'set', 'change a run that waits')
    .option('--priority <WHICH>', 'high or normal')
    .action(async (id: string, values: ApiOptions & { readonly priority?: string }) => {
      await (await import('./runs.ts')).runRunSet(id, values, context);
    });
}

function one(run: Command, name: string, summary: string): Command {
  return verb(run, name, summary).argument('<RUN>', 'its id');
}

const START_HELP = `
Prints the id of the run. With --wait or --follow the exit code is 0 when it succeeded and 1 otherwise; what happens to
it is told on standard error. Ctrl-C while waiting leaves the run alone and says how to end it.
${TRUST_HELP}

Examples:
  halfway run start --connection ann -- backup.sh --full
  halfway run start --connection ann --follow --input day=monday -- report.sh
  halfway run start --connection ann --secret-input pin=@pin.txt -- unlock.sh
  halfway run start --connection ann --job job.json --wait --json`;

const EXAMPLES = `
Examples:
  halfway run start --connection ann --follow -- uname -a
  halfway run list --state Running
  halfway run logs -f 0b2c7e52-…
  halfway run cancel 0b2c7e52-…`;
