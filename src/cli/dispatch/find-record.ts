import type { DispatchClient } from '../../dispatch-client/dispatch-client.ts';
import { DispatchError } from '../../dispatch-client/dispatch-error.ts';
import type { RecordCollection } from '../../dispatch-client/record-collection.ts';
import type { TargetRef } from '../../dispatch-client/representations.ts';
import { CommandError, usageError } from '../command-error.ts';
import { plain } from './show.ts';

interface Named {
  readonly id: string;
  readonly name?: string | undefined;
}

const ID = /^[A-Za-z0-9._~-]{1,64}$/;
/** How ids look that nobody chose: a name that looks like one is unlikely, and the id goes first. */
const MADE_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * The record that a name or an id means. Fails when there is none, or several of that name; `what` is the word of the
 * command that lists them.
 */
export async function findRecord<Item extends Named>(
  records: RecordCollection<Item>,
  text: string,
  what: string,
): Promise<Item> {
  if (MADE_ID.test(text)) {
    const record = await byId(records, text);
    if (record !== undefined) return record;
  }
  const found: Item[] = [];
  for await (const record of records.all()) {
    if (record.id === text) return record;
    if (record.name === text) found.push(record);
  }
  const [first, ...others] = found;
  if (first === undefined) {
    throw new CommandError(
      `There is no ${what} "${text}"; \`halfway ${what} list\` shows which there are`,
    );
  }
  if (others.length === 0) return first;
  const ids = found.map(({ id, name = '' }) => `\n  ${id}  ${plain(name)}`).join('');
  throw new CommandError(`There are several of the name "${text}"; give the id of one:${ids}`);
}

async function byId<Item extends Named>(
  records: RecordCollection<Item>,
  id: string,
): Promise<Item | undefined> {
  try {
    return await records.get(id);
  } catch (error) {
    if (error instanceof DispatchError && error.status === 404) return undefined;
    throw error;
  }
}

/** An id that is typed as such: runs have no names. */
export function idOf(text: string, what: string): string {
  if (ID.test(text)) return text;
  throw usageError(`"${text}" is no id of a ${what}`);
}

export interface TargetOptions {
  readonly machine?: string;
  readonly group?: string;
}

export interface FoundTarget extends TargetRef {
  readonly name: string;
}

/** What --machine or --group names; undefined when neither is given. */
export async function findTarget(
  client: DispatchClient,
  { machine, group }: TargetOptions,
): Promise<FoundTarget | undefined> {
  if (machine !== undefined && group !== undefined) {
    throw usageError('Give --machine or --group, not both');
  }
  if (machine !== undefined) {
    const { id, name } = await findRecord(client.machines, machine, 'machine');
    return { kind: 'machine', id, name };
  }
  if (group === undefined) return undefined;
  const { id, name } = await findRecord(client.groups, group, 'group');
  return { kind: 'group', id, name };
}

/** Names by id, for tables; what cannot be looked up is shown by its id. */
export async function namesOf(records: RecordCollection<Named>): Promise<(id: string) => string> {
  const names = new Map<string, string>();
  try {
    const { items } = await records.page({ limit: NAMES_MAX });
    for (const { id, name } of items) names.set(id, name ?? id);
  } catch (error) {
    if (!(error instanceof DispatchError)) throw error;
  }
  return id => names.get(id) ?? id;
}

const NAMES_MAX = 200;
