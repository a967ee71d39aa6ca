import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { isSignedBy, verifyingKeyOf } from '../crypto/es256.ts';
import { requireIn, requireMay, type Caller } from './access.ts';
import { audit } from './audit.ts';
import { parseBody } from './checks.ts';
import {
  DAY_MS,
  FORMER_KEYS_INDEX,
  GRACE_DAYS_DEFAULT,
  ROTATIONS_INDEX,
  suspendSealedTo,
} from './key-retirement.ts';
import { checkedKey } from './machine-requests.ts';
import { Problem } from './problem.ts';
import { MACHINE, type FormerKey, type Machine } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { Resealing } from './resealing.ts';
import { sealedIndex } from './sealed-index.ts';

const POINT = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{87}$/, 'must be a point of 65 bytes'));
const SIGNATURE = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9_-]{86}$/, 'must be a signature of 64 bytes'),
);
export const encryptionKeySchema = v.strictObject({
  point: POINT,
  /** Of the identity key, over `keyChangeText`. */
  signature: SIGNATURE,
});
export const identityKeySchema = v.strictObject({
  point: POINT,
  /** Of the present identity key, over `keyChangeText`. */
  signature: SIGNATURE,
  /** Of the new one, over the same. */
  proof: SIGNATURE,
});
export const machinePromotionSchema = v.strictObject({
  suspendRest: v.optional(v.boolean(), false),
});

/** What a machine signs to change one of its keys. `point`: the new one. */
export function keyChangeText(
  what: 'encryption-key' | 'identity-key',
  about: { readonly environment: string; readonly machineId: string; readonly point: string },
): string {
  return `hyco-jobs/1 ${what} ${about.environment} ${about.machineId} ${about.point}`;
}

/** Machines replace their own keys; each new one is vouched for by the identity key. Source: 12.7. */
export class MachineKeys {
  readonly #repository: Repository;
  readonly #resealing: Resealing;
  readonly #clock: Clock;

  constructor(repository: Repository, resealing: Resealing, clock: Clock) {
    this.#repository = repository;
    this.#resealing = resealing;
    this.#clock = clock;
  }

  /**
   * A new encryption key, which takes the place of the present one when nothing is sealed to that any more. Safe
   * to call again with the same. Throws `TokenInvalid` for a bad signature, `KeyInUse` while another new one is
   * in use already.
   */
  async putEncryptionKey(machineId: string, body: unknown): Promise<Versioned<Machine>> {
    const { point, signature } = parseBody(encryptionKeySchema, body);
    const publicKey = await checkedKey(point, 'point');
    return this.#change(machineId, 'machine.key.secondary', publicKey.kid, (before, draft) => {
      requireSigned(before.identityKey, signature, this.#text('encryption-key', machineId, point));
      if (point === before.identityKey) throw sameKey();
      const isThere = [before.encryptionKey, before.secondaryKey?.publicKey].some(
        key => key?.kid === publicKey.kid,
      );
      if (isThere) return undefined;
      const isOld = before.formerKeys?.some(key => key.publicKey.kid === publicKey.kid) === true;
      if (isOld) throw new Problem('VersionConflict', 'a key that was replaced does not come back');
      const other = before.secondaryKey?.publicKey.kid;
      if (other !== undefined) draft.below(sealedIndex(other), 1, new Problem('KeyInUse'));
      const nowMs = this.#clock.wallMs();
      draft.add(ROTATIONS_INDEX, `machine:${machineId}`, nowMs);
      return { ...before, secondaryKey: { publicKey, createdAtMs: nowMs } };
    });
  }

  /** A new identity key, at once. Safe to call again with the same, when the answer was lost. */
  async putIdentityKey(machineId: string, body: unknown): Promise<Versioned<Machine>> {
    const { point, signature, proof } = parseBody(identityKeySchema, body);
    const { kid } = await checkedKey(point, 'point');
    const text = this.#text('identity-key', machineId, point);
    return this.#change(machineId, 'machine.identity-key', kid, before => {
      requireSigned(point, proof, text);
      if (before.identityKey === point) return undefined;
      requireSigned(before.identityKey, signature, text);
      const own = [before.encryptionKey, before.secondaryKey?.publicKey];
      if (own.some(key => key?.point === point)) throw sameKey();
      return { ...before, identityKey: point };
    });
  }

  /** Has the machine seal anew what may be, then replaces the key if nothing is left. True: it was replaced. */
  async advance(machineId: string): Promise<boolean> {
    const machine = await this.#repository.get(MACHINE, machineId);
    const { secondaryKey } = machine?.value ?? {};
    if (machine === undefined || secondaryKey === undefined) {
      await this.#forget(machineId);
      return false;
    }
    const target = { kind: 'machine', id: machineId } as const;
    const [from, to] = [machine.value.encryptionKey, secondaryKey.publicKey];
    const by = `machine:${machineId}`;
    if ((await this.#repository.count(sealedIndex(from.kid))) > 0) {
      await this.#resealing.reseal({ target, from, to, machineId, by });
    }
    try {
      await this.#promote(machineId, by);
      return true;
    } catch (error) {
      if (error instanceof Problem && error.code === 'KeyInUse') return false;
      throw error;
    }
  }

  /** By whom the machine belongs to: connections that are in the way are suspended if that is wanted. */
  async promote(caller: Caller, machineId: string, body: unknown): Promise<Versioned<Machine>> {
    const { suspendRest } = parseBody(machinePromotionSchema, body ?? {});
    requireIn(caller, 'view');
    const machine = await this.#repository.get(MACHINE, machineId);
    if (machine === undefined) throw new Problem('MachineNotFound');
    requireMay(caller, 'share', machine.value);
    if (machine.value.secondaryKey === undefined) throw noSecondary();
    if (suspendRest) {
      const { kid } = machine.value.encryptionKey;
      await suspendSealedTo(this.#repository, this.#clock, { kid, by: caller.name });
    }
    return this.#promote(machineId, caller.name);
  }

  /** Forgets former keys whose grace is over. */
  async dropFormer(machineId: string): Promise<void> {
    await this.#repository.change(async () => {
      const draft = new Draft();
      const member = `machine:${machineId}`;
      const before = await this.#repository.get(MACHINE, machineId);
      const nowMs = this.#clock.wallMs();
      const formerKeys = (before?.value.formerKeys ?? []).filter(key => key.dropAtMs > nowMs);
      if (formerKeys.length === 0) draft.drop(FORMER_KEYS_INDEX, member);
      else draft.add(FORMER_KEYS_INDEX, member, firstDrop(formerKeys));
      if (before !== undefined) {
        draft.replace(MACHINE, before, { ...before.value, formerKeys });
        audit(draft, { atMs: nowMs, action: 'machine.key.drop', by: 'system', object: machineId });
      }
      return { draft, answer: undefined };
    });
  }

  #promote(machineId: string, by: string): Promise<Versioned<Machine>> {
    return this.#change(
      machineId,
      'machine.key.promote',
      undefined,
      (before, draft) => {
        if (before.secondaryKey === undefined) throw noSecondary();
        const nowMs = this.#clock.wallMs();
        const former = {
          publicKey: before.encryptionKey,
          replacedAtMs: nowMs,
          dropAtMs: nowMs + GRACE_DAYS_DEFAULT * DAY_MS,
        };
        const formerKeys = [...(before.formerKeys ?? []), former];
        draft.below(sealedIndex(before.encryptionKey.kid), 1, new Problem('KeyInUse'));
        draft.drop(ROTATIONS_INDEX, `machine:${machineId}`);
        draft.add(FORMER_KEYS_INDEX, `machine:${machineId}`, firstDrop(formerKeys));
        const encryptionKey = before.secondaryKey.publicKey;
        return { ...before, encryptionKey, secondaryKey: undefined, formerKeys };
      },
      by,
    );
  }

  async #forget(machineId: string): Promise<void> {
    await this.#repository.change(async () => {
      const draft = new Draft().drop(ROTATIONS_INDEX, `machine:${machineId}`);
      return Promise.resolve({ draft, answer: undefined });
    });
  }

  #text(what: Parameters<typeof keyChangeText>[0], machineId: string, point: string): string {
    return keyChangeText(what, { environment: this.#repository.partition, machineId, point });
  }

  /** `change` answers undefined when nothing is to be changed. */
  #change(
    machineId: string,
    action: string,
    kid: string | undefined,
    change: (before: Machine, draft: Draft) => Machine | undefined,
    by = `machine:${machineId}`,
  ): Promise<Versioned<Machine>> {
    return this.#repository.change(async () => {
      const before = await this.#repository.get(MACHINE, machineId);
      if (before === undefined) throw new Problem('MachineNotFound');
      const draft = new Draft();
      const value = change(before.value, draft);
      if (value === undefined) return { draft: new Draft(), answer: before };
      draft.replace(MACHINE, before, value);
      const details = { kid: kid ?? value.encryptionKey.kid };
      audit(draft, { atMs: this.#clock.wallMs(), action, by, object: machineId, details });
      return { draft, answer: { id: machineId, version: before.version + 1, value } };
    });
  }
}

function requireSigned(point: string, signature: string, text: string): void {
  const key = verifyingKeyOf(point);
  if (key !== undefined && isSignedBy(key, Buffer.from(text), signature)) return;
  throw new Problem('TokenInvalid', 'it is not signed by the identity key');
}

/** One key for two uses would tie the strength of each to the other. */
function sameKey(): Problem {
  const errors = [{ path: 'point', message: 'must be a key of its own' }];
  return new Problem('RequestMalformed', undefined, { errors });
}

function noSecondary(): Problem {
  return new Problem('NotFound', 'the machine has made no new key');
}

function firstDrop(keys: readonly FormerKey[]): number {
  return Math.min(...keys.map(({ dropAtMs }) => dropAtMs));
}
