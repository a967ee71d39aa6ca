import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import type { RecordCollection } from '../../dispatch-client/record-collection.ts';
import { usageError } from '../command-error.ts';
import { printJson, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';
import { withDispatch } from './open-dispatch.ts';
import { findRecord } from './find-record.ts';
import { plain, printRecord } from './show.ts';

// What machines, groups, connections, schedules and triggers have in common.

export interface SharedRecord {
  readonly id: string;
  readonly version: number;
  readonly name?: string | undefined;
}

/** The word of the command, and of messages. */
export type Noun = 'machine' | 'group' | 'connection' | 'schedule' | 'trigger';

const COLLECTIONS: Readonly<
  Record<Noun, (client: DispatchClient) => RecordCollection<SharedRecord>>
> = {
  machine: client => client.machines,
  group: client => client.groups,
  connection: client => client.connections,
  schedule: client => client.schedules,
  trigger: client => client.triggers,
};

/** `halfway NOUN show`. */
export async function runShow(
  noun: Noun,
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const records = COLLECTIONS[noun](client);
    const { id } = await findRecord(records, text, noun);
    // Once more by its id: a list may tell less of each.
    await printRecord(await records.get(id), options, context);
  });
}

/** `halfway NOUN delete`: as it was found, or not at all. */
export async function runDelete(
  noun: Noun,
  text: string,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  await withDispatch(options, context, async client => {
    const records = COLLECTIONS[noun](client);
    const { id } = await findRecord(records, text, noun);
    const { version, name } = await records.get(id);
    await records.delete(id, version);
    if (options.json === true) return printJson({ deleted: true, id }, context);
    await writeLine(context.stdout, `Deleted ${plain(name ?? id)}`);
  });
}

/** `halfway NOUN set`: changes what is given, if nobody else changed the record meanwhile. */
export async function changeRecord(
  noun: Noun,
  text: string,
  changes: object,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  if (Object.keys(changes).length === 0) {
    throw usageError('Nothing to change: give at least one of the options that say what');
  }
  await withDispatch(options, context, async client => {
    const records = COLLECTIONS[noun](client);
    const { id } = await findRecord(records, text, noun);
    const { version } = await records.get(id);
    await records.patch(id, changes, version);
    await printRecord(await records.get(id), options, context);
  });
}

/** `halfway NOUN grant` and `revoke` (without a grant). */
export async function runAccess(
  noun: Noun,
  text: string,
  principal: string,
  grant: string | undefined,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  checkPrincipal(principal);
  await withDispatch(options, context, async client => {
    const records = COLLECTIONS[noun](client);
    const { id } = await findRecord(records, text, noun);
    await records.setAccess(id, principal, grant);
    await printRecord(await records.get(id), options, context);
  });
}

/** Throws a usage error that says which forms there are. */
export function checkPrincipal(principal: string): void {
  if (/^(?:user|token|machine):[A-Za-z0-9._~-]{1,64}$/.test(principal)) return;
  throw usageError(`Cannot read "${principal}": it is user:ID, token:ID or machine:ID`);
}

/** `on`/`off` as people write them. */
export function switchOf(text: string | undefined, option: string): boolean | undefined {
  if (text === undefined) return undefined;
  if (['on', 'true', 'yes'].includes(text)) return true;
  if (['off', 'false', 'no'].includes(text)) return false;
  throw usageError(`Cannot read ${option} "${text}": it is on or off`);
}
