import { createHash, randomUUID } from 'node:crypto';
import * as v from 'valibot';
import { Problem } from './problem.ts';
import type { Versioned } from './repository.ts';

/** Checks a request's body. Throws `RequestMalformed` with all faults at once. */
export function parseBody<Value>(schema: v.GenericSchema<unknown, Value>, body: unknown): Value {
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  const errors = parsed.issues.map(issue => ({
    path: v.getDotPath(issue) ?? '',
    // Valibot quotes what it got; a body may hold what must not be said again.
    message: issue.message.replace(/ but received .*$/s, ''),
  }));
  throw new Problem('RequestMalformed', undefined, { errors });
}

/**
 * What `If-Match` asks: the version that the caller has read. Throws `PreconditionRequired` when it said
 * none, `PreconditionFailed` when it is another one.
 */
export function requireVersion(record: Versioned<unknown>, ifMatch: number | undefined): void {
  if (ifMatch === undefined) throw new Problem('PreconditionRequired');
  if (ifMatch !== record.version) throw new Problem('PreconditionFailed');
}

export function newId(): string {
  return randomUUID();
}

/** In base64url. */
export function sha256Of(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('base64url');
}
