import { CHALLENGE } from './records.ts';
import { Draft, type Repository } from './repository.ts';

/** Challenges by when they are no good any more. */
export const CHALLENGES_INDEX = 'challenges';
const AT_A_TIME = 50;

/** Returns how many. */
export async function forgetOldChallenges(repository: Repository, nowMs: number): Promise<number> {
  const old = await repository.range(CHALLENGES_INDEX, { to: nowMs, limit: AT_A_TIME });
  if (old.length === 0) return 0;
  return repository.change(async () => {
    const ids = old.map(({ member }) => member);
    const draft = new Draft();
    for (const record of await repository.getMany(CHALLENGE, ids)) draft.remove(CHALLENGE, record);
    for (const id of ids) draft.drop(CHALLENGES_INDEX, id);
    return { draft, answer: old.length };
  });
}
