import type { Clock } from '../base/clock.ts';
import { audit } from './audit.ts';
import { CONNECTION } from './records.ts';
import { Draft, type Repository } from './repository.ts';
import { moveSealed, sealedIndex } from './sealed-index.ts';

// What the rotations of groups and of machines have in common.

/** Key holders whose key is being changed, as `group:<id>` and `machine:<id>`. */
export const ROTATIONS_INDEX = 'key-rotations';
/** Key holders with former keys, by when the first of these is dropped. */
export const FORMER_KEYS_INDEX = 'former-keys';

export const GRACE_DAYS_DEFAULT = 45;
export const GRACE_DAYS_MAX = 365;
export const DAY_MS = 24 * 3_600_000;
const AT_A_TIME = 50;

/** Suspends all connections that are still sealed to a key: they take new credentials before they run again. */
export async function suspendSealedTo(
  repository: Repository,
  clock: Clock,
  { kid, by }: { readonly kid: string; readonly by: string },
): Promise<number> {
  for (let suspended = 0; ;) {
    const entries = await repository.range(sealedIndex(kid), { limit: AT_A_TIME });
    if (entries.length === 0) return suspended;
    for (const { member } of entries) {
      await repository.change(async () => {
        const before = await repository.get(CONNECTION, member);
        const draft = new Draft();
        if (before?.value.envelope?.kid !== kid) {
          draft.drop(sealedIndex(kid), member);
          return { draft, answer: undefined };
        }
        const atMs = clock.wallMs();
        const value = { ...before.value, suspended: { code: 'KeyIdUnknown', atMs } };
        draft.replace(CONNECTION, before, value);
        moveSealed(draft, before.value, value);
        const details = { code: 'KeyIdUnknown', kid };
        audit(draft, { atMs, action: 'connection.suspend', by, object: member, details });
        return { draft, answer: undefined };
      });
      suspended += 1;
    }
  }
}
