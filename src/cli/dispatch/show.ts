import { fieldAt, tableOf } from '../admin-client.ts';
import { printJson, write, writeLine, type CommandContext } from '../context.ts';
import type { ApiOptions } from './api-options.ts';

/** A line for people, of values that others chose: nothing in it steers the terminal. */
export function plain(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ');
}

/** A table with a head, or `none` on standard error. */
export async function printTable(
  head: readonly string[],
  rows: readonly (readonly (string | number | undefined)[])[],
  none: string,
  { stdout, stderr }: CommandContext,
): Promise<void> {
  if (rows.length === 0) {
    stderr.write(`${none}\n`);
    return;
  }
  await writeLine(stdout, tableOf([head, ...rows.map(row => row.map(cellOf))]));
}

/** A record as JSON, or its members line by line. */
export async function printRecord(
  record: object,
  options: ApiOptions,
  context: CommandContext,
): Promise<void> {
  if (options.json === true) return printJson(record, context);
  await write(context.stdout, membersText(record));
}

/** `name  value` for each member; of members that have members, `outer.inner`. */
export function membersText(record: object): string {
  const rows = rowsOf(record, '');
  return rows.length === 0 ? '' : `${tableOf(rows)}\n`;
}

function rowsOf(record: object, before: string): readonly (readonly string[])[] {
  return Object.entries(record).flatMap(([name, value]) => {
    const path = `${before}${name}`;
    if (value === undefined || value === null) return [];
    if (Array.isArray(value)) {
      const isFlat = value.every(item => typeof item !== 'object');
      return [[path, plain(isFlat ? value.join(', ') : JSON.stringify(value))]];
    }
    if (typeof value === 'object') return rowsOf(value, `${path}.`);
    return [[path, plain(String(value))]];
  });
}

/** A moment as REST gives it, without its milliseconds. */
export function momentText(iso: string | undefined): string {
  return iso?.replace(/\.\d+Z$/, 'Z') ?? '';
}

/** A moment that the library has no name for. */
export function momentAt(record: object, name: string): string {
  const value = fieldAt(record, name);
  return typeof value === 'string' ? momentText(value) : '';
}

function cellOf(value: string | number | undefined): string {
  return value === undefined ? '' : plain(String(value));
}
