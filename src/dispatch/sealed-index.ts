import type { Connection } from './records.ts';
import type { Draft } from './repository.ts';

/**
 * Connections whose credentials are sealed to a key and are in use: a key may go when there are none. Those that
 * are suspended take new credentials before they are used again, so that they need no key.
 */
export function sealedIndex(kid: string): string {
  return `sealed:${kid}`;
}

/** Adds to a draft what moves a connection from one key to another; undefined: it is not there. */
export function moveSealed(
  draft: Draft,
  before: Connection | undefined,
  after: Connection | undefined,
): void {
  const [from, to] = [before, after].map(kidInUse);
  const { id = '', createdAtMs = 0 } = after ?? before ?? {};
  if (from !== undefined && from !== to) draft.drop(sealedIndex(from), id);
  if (to !== undefined && from !== to) draft.add(sealedIndex(to), id, createdAtMs);
}

function kidInUse(connection: Connection | undefined): string | undefined {
  return connection?.suspended === undefined ? connection?.envelope?.kid : undefined;
}
