import { sha256Of } from './checks.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository } from './repository.ts';

/** Assertions of machines that were taken, by when they are no good any more by themselves. */
const INDEX = 'assertions';
const AT_A_TIME = 150;

/**
 * Takes an assertion once, however often it is sent while it is good. `text`: what tells it from others of the
 * machine, which is what it signs and not its signature: one of ECDSA can be written in two ways. Throws
 * `TokenInvalid`.
 */
export async function takeOnce(
  repository: Repository,
  about: { readonly machineId: string; readonly text: string; readonly goodUntilMs: number },
): Promise<void> {
  const member = `${about.machineId}:${sha256Of(about.text)}`;
  const again = new Problem('TokenInvalid', 'the assertion was used before: make another one');
  await repository.change(async () => {
    const draft = new Draft().member(INDEX, member, false, again);
    draft.add(INDEX, member, about.goodUntilMs);
    return Promise.resolve({ draft, answer: undefined });
  });
}

/** Returns how many. */
export async function forgetOldAssertions(repository: Repository, nowMs: number): Promise<number> {
  const old = await repository.range(INDEX, { to: nowMs - 1, limit: AT_A_TIME });
  if (old.length === 0) return 0;
  return repository.change(async () => {
    const draft = new Draft();
    for (const { member } of old) draft.drop(INDEX, member);
    return Promise.resolve({ draft, answer: old.length });
  });
}
