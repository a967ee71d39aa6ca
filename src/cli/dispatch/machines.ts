import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord, namesOf } from './find-record.ts';
import { pairsIn } from './run-inputs.ts';
import { countOf, defined } from './run-start.ts';
import { changeRecord, switchOf } from './shared-records.ts';
import { plain, momentText, printRecord, printTable } from './show.ts';

export interface MachineSetOptions extends ApiOptions {
  readonly name?: string;
  readonly description?: string;
  readonly label?: readonly string[];
  readonly bots?: string;
  readonly reuseSessions?: string;
  readonly lookAhead?: string;
  readonly maintenance?: string;
}

/** `halfway machine list`. */
export async function runMachineList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.machines.list();
    if (options.json === true) return printJson(found, context);
    const groupName = found.some(({ group }) => group !== undefined)
      ? await namesOf(client.groups)
      : (id: string): string => id;
    const rows = found.map(machine => [
      machine.name,
      [machine.state ?? '', ...(machine.reasons ?? [])].join(' '),
      machine.presence?.state,
      momentText(machine.presence?.lastSignalAt),
      (machine.running?.unattended ?? 0) + (machine.running?.attended ?? 0),
      machine.waiting,
      machine.group === undefined ? '' : groupName(machine.group.id),
      machine.presence?.agentVersion,
      machine.id,
    ]);
    const head = ['NAME', 'STATE', 'PRESENCE', 'LAST SIGNAL', 'RUNS', 'WAITING'];
    await printTable(
      [...head, 'GROUP', 'VERSION', 'ID'],
      rows,
      'There are no machines; register one with `halfway machine register` there',
      context,
    );
  });
}

/** `halfway machine set`. */
export async function runMachineSet(
  text: string,
  options: MachineSetOptions,
  context: CommandContext,
): Promise<void> {
  const changes = defined({
    name: options.name,
    description: options.description,
    labels: pairsIn(options.label, '--label'),
    allocatedBots: countOf(options.bots, '--bots'),
    reuseSessions: switchOf(options.reuseSessions, '--reuse-sessions'),
    lookAhead: countOf(options.lookAhead, '--look-ahead'),
    maintenance: switchOf(options.maintenance, '--maintenance'),
  });
  await changeRecord('machine', text, changes, options, context);
}

/** `halfway machine drain`: what runs goes on, nothing new is offered. */
export async function runMachineDrain(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id, name } = await findRecord(client.machines, text, 'machine');
    await client.machines.act(id, 'drain');
    if (options.json === true) return printJson(await client.machines.get(id), context);
    await writeLine(
      context.stdout,
      `${plain(name)} drains; \`halfway machine set ${id} --maintenance off\` ends it`,
    );
  });
}

/** `halfway machine diagnostics`: what the machine service says of itself, as JSON. */
export async function runMachineDiagnostics(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.machines, text, 'machine');
    await printJson(await client.machines.act(id, 'diagnostics'), context);
  });
}

/** `halfway machine echo`: there and back through the relay. */
export async function runMachineEcho(
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const { id } = await findRecord(client.machines, text, 'machine');
    const answer = await client.machines.act(id, 'echo');
    await printRecord(
      typeof answer === 'object' && answer !== null ? answer : {},
      options,
      context,
    );
  });
}
