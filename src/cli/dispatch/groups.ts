import { readAnswer } from '../../dispatch-client/record-collection.ts';
import { runPageSchema } from '../../dispatch-client/representations.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord, findTarget } from './find-record.ts';
import { countOf, defined } from './run-start.ts';
import { printRuns } from './runs.ts';
import { changeRecord, switchOf } from './shared-records.ts';
import { plain, printRecord, printTable } from './show.ts';

export interface GroupSettings extends ApiOptions {
  readonly description?: string;
  readonly lookAhead?: string;
}

export interface GroupSetOptions extends GroupSettings {
  readonly name?: string;
  readonly maintenance?: string;
}

/** `halfway group create`: it has no key yet; the first machine that joins makes it. */
export async function runGroupCreate(
  name: string,
  options: GroupSettings,
  context: CommandContext,
): Promise<void> {
  const { description } = options;
  const lookAhead = countOf(options.lookAhead, '--look-ahead');
  await withDispatch(options, context, async client => {
    const group = await client.groups.create(defined({ name, description, lookAhead }));
    if (options.quiet !== true) {
      context.stderr.write(
        `It has no key until a machine has joined: \`halfway machine join-group ${group.id}\` there\n`,
      );
    }
    await printRecord(group, options, context);
  });
}

/** `halfway group list`. */
export async function runGroupList(options: ApiOptions, context: CommandContext): Promise<void> {
  await withDispatch(options, context, async client => {
    const found = await client.groups.list();
    if (options.json === true) return printJson(found, context);
    const rows = found.map(({ id, name, state, members, waiting, owner }) => [
      name,
      state,
      members?.length,
      waiting,
      owner,
      id,
    ]);
    const head = ['NAME', 'STATE', 'MACHINES', 'WAITING', 'OWNER', 'ID'];
    await printTable(head, rows, 'There are no machine groups', context);
  });
}

/** `halfway group set`. */
export async function runGroupSet(
  text: string,
  options: GroupSetOptions,
  context: CommandContext,
): Promise<void> {
  const changes = defined({
    name: options.name,
    description: options.description,
    lookAhead: countOf(options.lookAhead, '--look-ahead'),
    maintenance: switchOf(options.maintenance, '--maintenance'),
  });
  await changeRecord('group', text, changes, options, context);
}

/** `halfway group remove-member`: as the machine's own `leave-group`, from outside. */
export async function runGroupRemoveMember(
  text: string,
  machine: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const group = await findRecord(client.groups, text, 'group');
    const member = await findRecord(client.machines, machine, 'machine');
    const path = `${client.groups.pathOf(group.id)}/members/${encodeURIComponent(member.id)}`;
    await client.call('DELETE', path);
    if (options.json === true) return printJson(await client.groups.get(group.id), context);
    await writeLine(context.stdout, `${plain(member.name)} has left ${plain(group.name)}`);
  });
}

/** `halfway machine queue`, `halfway group queue`: what waits, in the order in which it comes next. */
export async function runQueue(
  kind: 'machine' | 'group',
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const records = kind === 'machine' ? client.machines : client.groups;
    const { id } = await findRecord<{ readonly id: string }>(records, text, kind);
    const answer = await client.call('GET', `${records.pathOf(id)}/queue`, {
      query: { limit: 200 },
    });
    const { items } = readAnswer(runPageSchema, answer);
    if (options.json === true) return printJson(items, context);
    await printRuns(client, items, context);
  });
}

/** `halfway machine fingerprint`, `halfway group fingerprint`: of the key as this program computes it. */
export async function runFingerprint(
  kind: 'machine' | 'group',
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const target = await findTarget(client, { [kind]: text });
    if (target === undefined) return;
    const { fingerprint, holder, point } = await client.publicKeyOf(target);
    if (options.json !== true) return writeLine(context.stdout, fingerprint);
    await printJson({ kid: holder.kid, suite: 'p256', point, fingerprint }, context);
  });
}
