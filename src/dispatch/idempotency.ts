import { sha256Of } from './checks.ts';
import { Problem } from './problem.ts';
import { IDEMPOTENCY } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';

// A POST that creates and comes again with the same `Idempotency-Key` makes nothing new: it is told what the
// first one made. Kept in the step that creates, so that one is never there without the other.

/** How long a key is remembered. */
export const IDEMPOTENCY_MS = 24 * 3600 * 1_000;
/** Sorted by when each is forgotten. */
const INDEX = 'idem-expiry';
/** Forgotten at a time. */
const FORGET_MAX = 50;

export interface Repeatable {
  /** `Idempotency-Key`; undefined: every request makes something new. */
  readonly key: string | undefined;
  /** Keys of different callers and of different kinds of things never meet. */
  readonly caller: string;
  readonly kind: string;
  readonly body: unknown;
}

export interface Repetition {
  /** What the first request made; undefined: this is the first. */
  readonly resourceId: string | undefined;
  /** Adds to a draft that this request made a thing. */
  remember(draft: Draft, resourceId: string): void;
}

/** Throws `IdempotencyKeyReused` when the key came with another body. */
export async function repetitionOf(
  repository: Repository,
  { key, caller, kind, body }: Repeatable,
  nowMs: number,
): Promise<Repetition> {
  if (key === undefined) return { resourceId: undefined, remember: () => undefined };
  const id = sha256Of(JSON.stringify([caller, kind, key]));
  const bodySha256 = sha256Of(JSON.stringify(body) ?? '');
  const known = await repository.get(IDEMPOTENCY, id);
  if (known !== undefined && known.value.expiresAtMs > nowMs) {
    if (known.value.bodySha256 !== bodySha256) throw new Problem('IdempotencyKeyReused');
    return { resourceId: known.value.resourceId, remember: () => undefined };
  }
  return {
    resourceId: undefined,
    remember(draft, resourceId) {
      const expiresAtMs = nowMs + IDEMPOTENCY_MS;
      const value = { bodySha256, resourceId, expiresAtMs };
      if (known === undefined) draft.create(IDEMPOTENCY, id, value);
      else draft.replace(IDEMPOTENCY, known, value);
      draft.add(INDEX, id, expiresAtMs);
    },
  };
}

/** Removes keys whose time is over; returns how many. */
export async function forgetOldKeys(repository: Repository, nowMs: number): Promise<number> {
  const entries = await repository.range(INDEX, { to: nowMs, limit: FORGET_MAX });
  if (entries.length === 0) return 0;
  return repository.change(async () => {
    const ids = entries.map(({ member }) => member);
    const records = await repository.getMany(IDEMPOTENCY, ids);
    const old = records.filter(({ value }) => value.expiresAtMs <= nowMs);
    const draft = new Draft();
    for (const record of old) draft.remove(IDEMPOTENCY, record).drop(INDEX, record.id);
    dropStrays(draft, ids, records);
    return { draft, answer: old.length };
  });
}

function dropStrays(
  draft: Draft,
  ids: readonly string[],
  records: readonly Versioned<unknown>[],
): void {
  const there = new Set(records.map(({ id }) => id));
  for (const id of ids) if (!there.has(id)) draft.drop(INDEX, id);
}
