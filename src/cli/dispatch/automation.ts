import { readAnswer } from '../../dispatch-client/record-collection.ts';
import { outcomePageSchema, triggerSchema } from '../../dispatch-client/representations.ts';
import { usageError } from '../command-error.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord, namesOf } from './find-record.ts';
import {
  countOf,
  defined,
  requestOf,
  runOf,
  secondsOf,
  type RunRequestOptions,
} from './run-start.ts';
import { changeRecord, switchOf } from './shared-records.ts';
import { momentText, plain, printRecord, printTable } from './show.ts';

// What starts runs by itself: schedules and webhook triggers.

interface ScheduleTimes {
  readonly cron?: string;
  readonly every?: string;
  readonly timeZone?: string;
  readonly onMissed?: string;
  readonly enabled?: string;
}

export type ScheduleCreateOptions = RunRequestOptions & ScheduleTimes;
export type ScheduleSetOptions = ApiOptions & ScheduleTimes & { readonly name?: string };

/** `halfway schedule create`: the run is asked for as with `run start`, without what is secret. */
export async function runScheduleCreate(
  name: string,
  command: readonly string[],
  options: ScheduleCreateOptions,
  context: CommandContext,
): Promise<void> {
  const times = timesOf(options);
  if ((options.cron === undefined) === (options.every === undefined)) {
    throw usageError(
      'Cannot tell when: give --cron "MINUTE HOUR DAY MONTH WEEKDAY" or --every TIME',
    );
  }
  const settings = await requestOf(command, options, context);
  await withDispatch(options, context, async client => {
    const connection = await findRecord(client.connections, options.connection, 'connection');
    const run = runOf(connection, settings);
    const schedule = await client.schedules.create({ name, ...times, run });
    await printRecord(schedule, options, context);
  });
}

/** `halfway schedule set`. */
export async function runScheduleSet(
  text: string,
  options: ScheduleSetOptions,
  context: CommandContext,
): Promise<void> {
  const changes = { ...timesOf(options), ...defined({ name: options.name }) };
  await changeRecord('schedule', text, changes, options, context);
}

function timesOf({ cron, every, timeZone, onMissed, enabled }: ScheduleTimes): object {
  return defined({
    cron,
    everySeconds: secondsOf(every, '--every'),
    timeZone,
    onMissed,
    isEnabled: switchOf(enabled, '--enabled'),
  });
}

/** `halfway schedule list`. */
export async function runScheduleList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.schedules.list();
    if (options.json === true) return printJson(found, context);
    const connectionName = await namesOf(client.connections);
    const rows = found.map(({ id, name, cron, timeZone, everySeconds, nextAt, last, run }) => [
      name,
      cron === undefined ? `every ${everySeconds ?? 0} s` : `${cron} ${timeZone ?? ''}`,
      nextAt === undefined ? 'disabled' : momentText(nextAt),
      last === undefined ? '' : `${momentText(last.at)} ${last.outcome} ${last.code ?? ''}`,
      connectionName(run.connectionId),
      id,
    ]);
    const head = ['NAME', 'WHEN', 'NEXT', 'LAST', 'CONNECTION', 'ID'];
    await printTable(head, rows, 'There are no schedules', context);
  });
}

/** `halfway schedule history`: what became of it each time. */
export async function runScheduleHistory(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.schedules, text, 'schedule');
    const answer = await client.call('GET', `${client.schedules.pathOf(id)}/history`);
    const { items } = readAnswer(outcomePageSchema, answer);
    if (options.json === true) return printJson(items, context);
    const rows = items.map(({ at, dueAt, outcome, runId, code, message }) => [
      momentText(dueAt),
      momentText(at),
      outcome,
      runId,
      code,
      message,
    ]);
    const head = ['DUE', 'AT', 'OUTCOME', 'RUN', 'CODE', 'MESSAGE'];
    await printTable(head, rows, 'It was not due yet', context);
  });
}

interface TriggerSettings {
  readonly runsPerMinute?: string;
  readonly enabled?: string;
}

export type TriggerCreateOptions = RunRequestOptions & TriggerSettings;
export type TriggerSetOptions = ApiOptions & TriggerSettings & { readonly name?: string };

/** `halfway trigger create`: the secret on standard output, where to send requests beside it. */
export async function runTriggerCreate(
  name: string,
  command: readonly string[],
  options: TriggerCreateOptions,
  context: CommandContext,
): Promise<void> {
  const settings = triggerSettings(options);
  const request = await requestOf(command, options, context);
  await withDispatch(options, context, async client => {
    const connection = await findRecord(client.connections, options.connection, 'connection');
    const run = runOf(connection, request);
    const trigger = await client.triggers.create({ name, ...settings, run });
    if (options.json === true) return printJson(trigger, context);
    if (options.quiet !== true) {
      const { origin, environment } = client;
      context.stderr.write(
        `Requests go to ${origin}/$api/v1/hooks/${environment}/${trigger.id}\n` +
          'They are signed with this secret, which is shown this once:\n',
      );
    }
    await writeLine(context.stdout, plain(trigger.secret ?? ''));
  });
}

/** `halfway trigger rotate-secret`: the new one on standard output. */
export async function runTriggerRotate(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.triggers, text, 'trigger');
    const answer = await client.triggers.act(id, 'rotate-secret');
    if (options.json === true) return printJson(answer, context);
    await writeLine(context.stdout, plain(readAnswer(triggerSchema, answer).secret ?? ''));
  });
}

/** `halfway trigger set`. */
export async function runTriggerSet(
  text: string,
  options: TriggerSetOptions,
  context: CommandContext,
): Promise<void> {
  const changes = { ...triggerSettings(options), ...defined({ name: options.name }) };
  await changeRecord('trigger', text, changes, options, context);
}

function triggerSettings({ runsPerMinute, enabled }: TriggerSettings): object {
  return defined({
    runsPerMinuteMax: countOf(runsPerMinute, '--runs-per-minute'),
    isEnabled: switchOf(enabled, '--enabled'),
  });
}

/** `halfway trigger list`. */
export async function runTriggerList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.triggers.list();
    if (options.json === true) return printJson(found, context);
    const connectionName = await namesOf(client.connections);
    const rows = found.map(({ id, name, isEnabled, runsPerMinuteMax, last, run }) => [
      name,
      isEnabled ? 'enabled' : 'disabled',
      runsPerMinuteMax,
      momentText(last?.at),
      connectionName(run.connectionId),
      id,
    ]);
    const head = ['NAME', 'STATE', 'RUNS PER MINUTE', 'LAST', 'CONNECTION', 'ID'];
    await printTable(head, rows, 'There are no triggers', context);
  });
}
