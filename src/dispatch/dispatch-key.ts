import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { decodeBase64Url } from '../crypto/base64url.ts';
import {
  newSigningKey,
  pointOf,
  signDetached,
  signingKeyOf,
  type SigningKey,
} from '../crypto/es256.ts';
import { signSuccessor, type ChainedJwk } from '../crypto/key-chain.ts';
import { keyIdOf } from '../crypto/key-id.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { COMMON_PARTITION, momentSchema } from './records.ts';
import { Draft, Repository, type Kind, type Versioned } from './repository.ts';

const INDEX = 'dispatch-keys';
/** How many are published, the newest ones: who was away for longer than they were made in registers again. */
const KEYS_MAX = 12;
const DAY_MS = 24 * 3_600_000;
/** How old the newest becomes. Source: job-dispatch.md section 12.7. */
export const DISPATCH_KEY_AGE_MS = 90 * DAY_MS;
/** A new key is published for so long before anything is signed with it. */
export const DISPATCH_KEY_OVERLAP_MS = DAY_MS;
/** How long a process may sign with a key that another has replaced. */
const LOOK_AGAIN_MS = 60_000;

const dispatchKeySchema = v.object({
  kid: v.string(),
  /** The uncompressed point, base64url. */
  point: v.string(),
  /** PKCS#8, base64url; undefined: nothing is signed with it any more. */
  secret: v.optional(v.string()),
  createdAtMs: momentSchema,
  /** It signs from then on. */
  activeAtMs: momentSchema,
  /** By the one before. */
  signedBy: v.optional(v.object({ kid: v.string(), signature: v.string() })),
});
type DispatchKey = v.InferOutput<typeof dispatchKeySchema>;
const DISPATCH_KEY: Kind<DispatchKey> = { name: 'dispatch-key', schema: dispatchKeySchema };

export interface Jwk extends ChainedJwk {
  readonly alg: 'ES256';
  readonly use: 'sig';
}

/**
 * The key that signs what is sent to machines. A Send token that was stolen cannot make offers: machines
 * take what is signed by a key that they learned when they registered, or by one that such a key has signed.
 */
export class DispatchKeys {
  readonly #repository: Repository;
  readonly #clock: Clock;
  #current: { readonly key: SigningKey; readonly readAtMs: number } | undefined;

  constructor(store: DispatchStore, clock: Clock) {
    this.#repository = new Repository(store, COMMON_PARTITION);
    this.#clock = clock;
  }

  /** For `Halfway-Signature`. `audience`: the path of the machine that it is for, which is signed too. */
  async sign(body: string, audience: string): Promise<string> {
    const nowMs = this.#clock.nowMs();
    if (this.#current === undefined || nowMs - this.#current.readAtMs >= LOOK_AGAIN_MS) {
      const { kid, secret } = await this.#active();
      if (secret === undefined) throw new Error('The key that signs offers is gone');
      this.#current = { key: { kid, privateKey: signingKeyOf(secret) }, readAtMs: nowMs };
    }
    const iat = Math.floor(this.#clock.wallMs() / 1_000);
    return signDetached(this.#current.key, body, { aud: audience, iat });
  }

  /** Makes the first key when there is none. The one that signs now is the first, then the newest come first. */
  async published(): Promise<readonly Jwk[]> {
    const { kid } = await this.#active();
    // Read after that, which may have made the first.
    const keys = (await this.#newestFirst()).map(({ value }) => jwkOf(value));
    return [...keys.filter(jwk => jwk.kid === kid), ...keys.filter(jwk => jwk.kid !== kid)];
  }

  /**
   * Makes a new key, signed by the newest, and publishes it. It signs after `overlapMs`, so that machines have
   * heard of it; a machine that has not refuses what is signed with it. While there is one that has not begun to
   * sign, no other is made: a dozen of them would push what machines know out of what is published.
   */
  async rotate(overlapMs = DISPATCH_KEY_OVERLAP_MS): Promise<void> {
    await this.#active();
    await this.#add(({ activeAtMs }) => activeAtMs <= this.#clock.wallMs(), overlapMs);
  }

  /** Replaces the newest when it is old, and forgets secrets that nothing is signed with any more. */
  async keepFresh(): Promise<void> {
    await this.#active();
    const oldMs = this.#clock.wallMs() - DISPATCH_KEY_AGE_MS;
    await this.#add(({ createdAtMs }) => createdAtMs <= oldMs, DISPATCH_KEY_OVERLAP_MS);
    await this.#retire();
  }

  async #active(): Promise<DispatchKey> {
    const keys = await this.#newestFirst();
    const nowMs = this.#clock.wallMs();
    // The first one signs at once; clocks of processes may be apart.
    const active = keys.find(({ value }) => value.activeAtMs <= nowMs) ?? keys.at(-1);
    if (active === undefined) {
      await this.#add(() => false, 0);
      return this.#active();
    }
    return active.value;
  }

  async #newestFirst(): Promise<readonly Versioned<DispatchKey>[]> {
    const entries = await this.#repository.range(INDEX, { isDescending: true, limit: KEYS_MAX });
    const ids = entries.map(({ member }) => member);
    return this.#repository.getMany(DISPATCH_KEY, ids);
  }

  /** Adds a key when there is none, or when the newest is to be replaced. Of several at once one does. */
  async #add(isToReplace: (newest: DispatchKey) => boolean, overlapMs: number): Promise<void> {
    const secret = newSigningKey();
    const point = pointOf(signingKeyOf(secret));
    const kid = await keyIdOf(decodeBase64Url(point) ?? new Uint8Array());
    let isFirstTry = true;
    await this.#repository.change(async () => {
      const draft = new Draft();
      const [newest] = await this.#newestFirst();
      const isWanted = newest === undefined || (isFirstTry && isToReplace(newest.value));
      isFirstTry = false;
      if (!isWanted) return { draft, answer: undefined };
      const nowMs = this.#clock.wallMs();
      const createdAtMs = Math.max(nowMs, (newest?.value.createdAtMs ?? 0) + 1);
      const value: DispatchKey = {
        kid,
        point,
        secret,
        createdAtMs,
        activeAtMs: nowMs + overlapMs,
        signedBy: newest === undefined ? undefined : signedBy(newest.value, kid, point),
      };
      if (newest === undefined) draft.unclaimed(INDEX);
      // Whoever adds one at the same time has changed it.
      else draft.replace(DISPATCH_KEY, newest, newest.value);
      draft.create(DISPATCH_KEY, kid, value).add(INDEX, kid, createdAtMs);
      return { draft, answer: undefined };
    });
    this.#current = undefined;
  }

  /** Two overlaps after its successor began to sign, nobody signs with a key. */
  async #retire(): Promise<void> {
    const keys = await this.#newestFirst();
    const sinceMs = this.#clock.wallMs() - DISPATCH_KEY_OVERLAP_MS;
    for (const [place, { id, value }] of keys.entries()) {
      const successor = keys[place - 1]?.value;
      if (value.secret === undefined || successor === undefined) continue;
      if (successor.activeAtMs > sinceMs) continue;
      await this.#repository.change(async () => {
        const before = await this.#repository.get(DISPATCH_KEY, id);
        const draft = new Draft();
        if (before !== undefined) {
          draft.replace(DISPATCH_KEY, before, { ...before.value, secret: undefined });
        }
        return { draft, answer: undefined };
      });
    }
  }
}

function signedBy(predecessor: DispatchKey, kid: string, point: string): DispatchKey['signedBy'] {
  if (predecessor.secret === undefined) throw new Error('The newest dispatch key has no secret');
  const signature = signSuccessor(signingKeyOf(predecessor.secret), kid, point);
  return { kid: predecessor.kid, signature };
}

function jwkOf({ kid, point, signedBy: chain }: DispatchKey): Jwk {
  const bytes = Buffer.from(point, 'base64url');
  const [x, y] = [bytes.subarray(1, 33), bytes.subarray(33)];
  return {
    kty: 'EC',
    crv: 'P-256',
    alg: 'ES256',
    use: 'sig',
    kid,
    x: x.toString('base64url'),
    y: y.toString('base64url'),
    ...(chain === undefined ? {} : { signedBy: chain }),
  };
}
