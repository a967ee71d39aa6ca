import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import type {
  ScheduleCreateOptions,
  ScheduleSetOptions,
  TriggerCreateOptions,
  TriggerSetOptions,
} from './automation.ts';
import { addRunRequestOptions, addSharedVerbs, nounCommand, verb } from './command-parts.ts';

/** `halfway schedule …`, `halfway trigger …`. */
export function addAutomationCommands(program: Command, context: CommandContext): void {
  const schedule = nounCommand(program, 'schedule', 'runs that the time starts', SCHEDULE_EXAMPLES);
  addTimes(addRunRequestOptions(verb(schedule, 'create', 'create one')))
    .argument('<NAME>', 'what it is called')
    .argument('[COMMAND...]', 'after --: the program and its arguments')
    .action(async (name: string, command: readonly string[], values: ScheduleCreateOptions) => {
      const { runScheduleCreate } = await import('./automation.ts');
      await runScheduleCreate(name, command, values, context);
    });
  verb(schedule, 'list', 'list them').action(async (values: ApiOptions) => {
    await (await import('./automation.ts')).runScheduleList(values, context);
  });
  addTimes(named(schedule, 'set', 'change one'))
    .option('--name <NAME>', 'what it is to be called')
    .action(async (text: string, values: ScheduleSetOptions) => {
      await (await import('./automation.ts')).runScheduleSet(text, values, context);
    });
  named(schedule, 'history', 'what became of it each time').action(
    async (text: string, values: ApiOptions) => {
      await (await import('./automation.ts')).runScheduleHistory(text, values, context);
    },
  );
  const words = { deleting: 'delete one', grants: 'use, edit or co-owner' };
  addSharedVerbs(schedule, 'schedule', words, context);

  const trigger = nounCommand(
    program,
    'trigger',
    'runs that a signed request from outside starts',
    TRIGGER_EXAMPLES,
  );
  addTriggerSettings(addRunRequestOptions(verb(trigger, 'create', 'create one, print its secret')))
    .argument('<NAME>', 'what it is called')
    .argument('[COMMAND...]', 'after --: the program and its arguments')
    .action(async (name: string, command: readonly string[], values: TriggerCreateOptions) => {
      const { runTriggerCreate } = await import('./automation.ts');
      await runTriggerCreate(name, command, values, context);
    });
  verb(trigger, 'list', 'list them').action(async (values: ApiOptions) => {
    await (await import('./automation.ts')).runTriggerList(values, context);
  });
  addTriggerSettings(named(trigger, 'set', 'change one'))
    .option('--name <NAME>', 'what it is to be called')
    .action(async (text: string, values: TriggerSetOptions) => {
      await (await import('./automation.ts')).runTriggerSet(text, values, context);
    });
  named(
    trigger,
    'rotate-secret',
    'make a new secret and print it; the old one is good a while',
  ).action(async (text: string, values: ApiOptions) => {
    await (await import('./automation.ts')).runTriggerRotate(text, values, context);
  });
  addSharedVerbs(trigger, 'trigger', words, context);
}

function named(noun: Command, name: string, summary: string): Command {
  return verb(noun, name, summary).argument('<NAME>', 'its name or id');
}

function addTimes(command: Command): Command {
  return command
    .option('--cron <TIMES>', '"MINUTE HOUR DAY MONTH WEEKDAY", as crontab has it')
    .option('--every <TIME>', 'in the place of --cron: 5m, 1h, 1d; at least 1m')
    .option('--time-zone <ZONE>', 'of --cron: Europe/Berlin; UTC unless it is given')
    .option('--on-missed <WHAT>', 'skip (the default), or once: one run for all that were missed')
    .option('--enabled <SWITCH>', 'on or off');
}

function addTriggerSettings(command: Command): Command {
  return command
    .option('--runs-per-minute <N>', 'how many requests in a minute are taken')
    .option('--enabled <SWITCH>', 'on or off');
}

const SCHEDULE_EXAMPLES = `
It runs with the rights of whoever said last what is run. Secret inputs cannot be scheduled: they are sealed for one
run.

Examples:
  halfway schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin --connection ann -- backup.sh
  halfway schedule list
  halfway schedule set nightly --enabled off`;

const TRIGGER_EXAMPLES = `
Examples:
  halfway trigger create shop --connection ann -- new-order.sh > shop.secret
  halfway trigger list
  halfway trigger delete shop`;
