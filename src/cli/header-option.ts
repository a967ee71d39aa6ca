import { usageError } from './command-error.ts';

/** `Name: value` as curl takes it. Throws a usage error that does not show the value. */
export function splitHeader(text: string): [string, string] {
  const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*)$/.exec(text);
  if (match !== null) return [match[1] ?? '', match[2] ?? ''];
  throw usageError('Cannot read a header: it must be written "Name: value", on one line');
}
