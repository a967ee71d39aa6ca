import * as v from 'valibot';
import { Problem } from './problem.ts';
import { groupPackageSchema, type PublicKey } from './records.ts';

// A group's private key under its password, as members put it: the server cannot look inside, and sees to it that
// it is for this group, this key and this generation.

export const keyPackageSchema = v.strictObject({
  /** The group's public key, an uncompressed point. */
  point: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{87}$/, 'must be a point of 65 bytes')),
  package: groupPackageSchema,
});

export type GroupPackageRecord = v.InferOutput<typeof groupPackageSchema>;

/** Throws `RequestMalformed` for a package of another group, key or generation. */
export function requireFitting(
  given: GroupPackageRecord,
  to: {
    readonly groupId: string;
    readonly publicKey: PublicKey;
    readonly generation: number;
    readonly isKeyFitting: boolean;
  },
): void {
  const faults = [
    given.groupId === to.groupId ? undefined : 'package.groupId',
    given.kid === to.publicKey.kid ? undefined : 'package.kid',
    given.generation === to.generation ? undefined : 'package.generation',
    to.isKeyFitting ? undefined : 'point',
  ].filter(path => path !== undefined);
  if (faults.length === 0) return;
  const errors = faults.map(path => ({ path, message: 'does not fit the group' }));
  throw new Problem('RequestMalformed', undefined, { errors });
}
