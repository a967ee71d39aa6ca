import { quote, show } from '../base/show.ts';
import type { DocumentPath } from './document.ts';

// Small readers of a parsed file that report every fault and go on with something harmless.

export interface Reading {
  /** Called once for each fault. The text continues a sentence that the path begins. */
  readonly report: (path: DocumentPath, fault: string) => void;
  /** The secret in a file, or undefined when it cannot be read; reports that itself. */
  readonly readSecret: (file: string, path: DocumentPath) => string | undefined;
}

export type Fields = Readonly<Record<string, unknown>>;

/** The fields of an object, or undefined when it is none; unknown keys are reported. */
export function fieldsAt(
  value: unknown,
  path: DocumentPath,
  known: readonly string[],
  reading: Reading,
): Fields | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    reading.report(path, `must have the keys ${known.join(', ')}, got ${show(value)}`);
    return undefined;
  }
  for (const key of Object.keys(value).filter(name => !known.includes(name))) {
    reading.report([...path, key], `is not a key we know; known here: ${known.join(', ')}`);
  }
  return Object.fromEntries(Object.entries(value));
}

export function listAt(value: unknown, path: DocumentPath, reading: Reading): unknown[] {
  if (Array.isArray(value)) return value;
  reading.report(path, `must be a list, got ${show(value)}`);
  return [];
}

export function optionalListAt(
  fields: Fields,
  key: string,
  path: DocumentPath,
  reading: Reading,
): unknown[] {
  return fields[key] === undefined ? [] : listAt(fields[key], [...path, key], reading);
}

export function nameAt(
  fields: Fields,
  path: DocumentPath,
  reading: Reading,
  name: { readonly isValid: (text: string) => boolean; readonly rule: string },
): string {
  const value = fields['name'];
  if (typeof value === 'string' && name.isValid(value)) return value;
  reading.report([...path, 'name'], `must be ${name.rule}, got ${show(value)}`);
  return '';
}

/** Azure compares all names without regard to case. */
export function reportTwice(
  items: readonly { readonly name: string }[],
  path: DocumentPath,
  reading: Reading,
): void {
  const firstByName = new Map<string, number>();
  for (const [index, { name }] of items.entries()) {
    const key = name.toLowerCase();
    const first = firstByName.get(key);
    if (key === '') continue;
    if (first === undefined) firstByName.set(key, index);
    else reading.report([...path, index, 'name'], `is taken by item [${first}]: ${quote(name)}`);
  }
}
