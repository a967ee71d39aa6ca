import { printJson, write, writeLine, type CommandContext } from '../context.ts';
import { EXIT, usageError, type ExitCode } from '../command-error.ts';
import { fieldAt } from '../admin-client.ts';
import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import type { RunView } from '../../dispatch-client/representations.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord, findTarget, idOf, namesOf, type TargetOptions } from './find-record.ts';
import { eventText, followRun, outcomeOf, writeLog } from './run-follow.ts';
import { countOf } from './run-start.ts';
import { membersText, momentAt, momentText, plain, printTable } from './show.ts';

export interface RunListOptions extends ApiOptions, TargetOptions {
  readonly state?: string;
  readonly connection?: string;
  readonly owner?: string;
  readonly limit?: string;
}

const LIST_LIMIT = 50;

/** `halfway run list`: the latest first. */
export async function runRunList(options: RunListOptions, context: CommandContext): Promise<void> {
  const limit = countOf(options.limit, '--limit') ?? LIST_LIMIT;
  await withDispatch(options, context, async client => {
    const { connection } = options;
    const target = await findTarget(client, options);
    const { items } = await client.runs.page({
      limit,
      state: options.state,
      owner: options.owner,
      connectionId:
        connection === undefined
          ? undefined
          : (await findRecord(client.connections, connection, 'connection')).id,
      machineId: target?.kind === 'machine' ? target.id : undefined,
      groupId: target?.kind === 'group' ? target.id : undefined,
    });
    if (options.json === true) return printJson(items, context);
    await printRuns(client, items, context);
  });
}

/** Runs as a table, with the names of what they run with and on. */
export async function printRuns(
  client: DispatchClient,
  runs: readonly RunView[],
  context: CommandContext,
): Promise<void> {
  const [connectionName, machineName] = await Promise.all([
    namesOf(client.connections),
    namesOf(client.machines),
  ]);
  const rows = runs.map(run => [
    run.id,
    `${run.state}${run.fault === undefined ? '' : ` ${run.fault.code}`}`,
    run.jobRef,
    connectionName(run.connectionId),
    run.machineId === undefined ? '' : machineName(run.machineId),
    momentText(run.queuedAt),
    run.priority === 'high' ? 'high' : '',
  ]);
  const head = ['RUN', 'STATE', 'JOB', 'CONNECTION', 'MACHINE', 'QUEUED', 'PRIORITY'];
  await printTable(head, rows, 'There are no runs', context);
}

/** `halfway run show`: all there is, what machines answered, what happened, and the outputs. */
export async function runRunShow(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  await withDispatch(options, context, async client => {
    const run = await client.runs.get(id);
    if (options.json === true) return printJson(run, context);
    const { answers = {}, ...rest } = run;
    await write(context.stdout, membersText(rest));
    const machineName = await namesOf(client.machines);
    const answered = Object.entries(answers).map(([machine, answer]) => [
      machineName(machine),
      answer.code,
      answer.times,
      momentText(answer.at),
      answer.message,
    ]);
    if (answered.length > 0) {
      await writeLine(context.stdout, '\nWhat machines answered');
      await printTable(['MACHINE', 'CODE', 'TIMES', 'LAST', 'MESSAGE'], answered, '', context);
    }
    await writeLine(context.stdout, '\nWhat happened');
    await printEvents(client, id, machineName, context);
    if (run['output'] !== undefined) {
      const outputs = await client.runs.outputs(id);
      await writeLine(context.stdout, `\nOutputs\n${JSON.stringify(outputs, undefined, 2)}`);
    }
  });
}

async function printEvents(
  client: DispatchClient,
  id: string,
  machineName: (id: string) => string,
  { stdout }: CommandContext,
): Promise<void> {
  for await (const event of client.runs.events(id)) {
    const machine = event.machineId === undefined ? '' : machineName(event.machineId);
    await writeLine(stdout, `${momentAt(event, 'at')}  ${eventText(event, machine)}`);
  }
}

/** `halfway run logs`: what there is; with -f until the run is over, whatever its end. */
export async function runRunLogs(
  text: string,
  options: ApiOptions & { readonly follow?: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  const id = idOf(text, 'run');
  return withDispatch(options, context, async client => {
    if (options.json === true) {
      if (options.follow === true) throw usageError('Give --json or --follow, not both');
      const pieces = [];
      for await (const { bytes, ...piece } of client.runs.logs(id)) {
        pieces.push({ ...piece, data: bytes.toString('base64') });
      }
      await printJson(pieces, context);
      return EXIT.ok;
    }
    if (options.follow !== true) {
      await writeLog(client, id, context, { follow: false });
      return EXIT.ok;
    }
    const ended = await followRun(client, id, { follow: true, quiet: true }, context);
    if (ended === undefined) return EXIT.failed;
    if (options.quiet !== true) context.stderr.write(`The run ended as ${ended.state}\n`);
    return EXIT.ok;
  });
}

/** `halfway run wait`: the exit code is that of `run start --wait`. */
export async function runRunWait(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<ExitCode> {
  const id = idOf(text, 'run');
  return withDispatch(options, context, async client => {
    const ended = await followRun(client, id, options, context);
    if (ended === undefined) return EXIT.failed;
    if (options.json === true) await printJson(ended, context);
    return outcomeOf(ended, options, context);
  });
}

/** `halfway run outputs`: as JSON, since that is what they are. */
export async function runRunOutputs(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  await withDispatch(options, context, async client => {
    await printJson(await client.runs.outputs(id), context);
  });
}

/** `halfway run input`: what was asked for; what is sealed is not shown by anybody here. */
export async function runRunInput(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  await withDispatch(options, context, async client => {
    await printJson(await client.runs.input(id), context);
  });
}

/** `halfway run cancel`: returns when it was asked, not when the run has ended. */
export async function runRunCancel(
  text: string,
  options: ApiOptions & { readonly mode?: string },
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  const { mode } = options;
  if (mode !== undefined && mode !== 'stop' && mode !== 'kill') {
    throw usageError(`Cannot cancel by "${mode}": --mode is stop or kill`);
  }
  await withDispatch(options, context, async client => {
    await client.runs.cancel(id, mode);
    await printAfter(client, id, options, context);
  });
}

/** `halfway run safe-stop`. */
export async function runRunSafeStop(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  await withDispatch(options, context, async client => {
    await client.runs.safeStop(id);
    await printAfter(client, id, options, context);
  });
}

async function printAfter(
  client: DispatchClient,
  id: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const run = await client.runs.get(id);
  if (options.json === true) await printJson(run, context);
  else await writeLine(context.stdout, plain(run.state));
}

/** `halfway run move-to-top`, `halfway run undo-move`. */
export async function runRunMove(
  text: string,
  direction: 'move-to-top' | 'undo-move',
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  await withDispatch(options, context, async client => {
    const isUp = direction === 'move-to-top';
    const run = await (isUp ? client.runs.moveToTop(id) : client.runs.undoMove(id));
    if (options.json === true) return printJson(run, context);
    const moved = isUp ? 'Moved to the top of its queue' : 'Moved back to its old place';
    await writeLine(context.stdout, moved);
  });
}

/** `halfway run set`: what can be changed while it waits. */
export async function runRunSet(
  text: string,
  options: ApiOptions & { readonly priority?: string },
  context: CommandContext,
): Promise<void> {
  const id = idOf(text, 'run');
  const { priority } = options;
  if (priority === undefined) throw usageError('Nothing to change: give --priority');
  await withDispatch(options, context, async client => {
    const { version } = await client.runs.get(id);
    const run = await client.runs.patch(id, { priority }, version);
    if (options.json === true) return printJson(run, context);
    await writeLine(context.stdout, `Priority ${plain(String(fieldAt(run, 'priority')))}`);
  });
}
