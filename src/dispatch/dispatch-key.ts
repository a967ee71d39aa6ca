import type { Clock } from '../base/clock.ts';
import { decodeBase64Url } from '../crypto/base64url.ts';
import {
  newSigningKey,
  pointOf,
  signDetached,
  signingKeyOf,
  type SigningKey,
} from '../crypto/es256.ts';
import { keyIdOf } from '../crypto/key-id.ts';
import type { DispatchStore } from '../store/dispatch-store.ts';
import { COMMON_PARTITION, SERVER_KEY } from './records.ts';
import { Draft, Repository } from './repository.ts';

const INDEX = 'dispatch-keys';
/** Old ones are published for as long as machines may have pinned them only. */
const KEYS_MAX = 10;

/** A public key as it is published (RFC 7517). */
export interface Jwk {
  readonly kty: 'EC';
  readonly crv: 'P-256';
  readonly alg: 'ES256';
  readonly use: 'sig';
  readonly kid: string;
  readonly x: string;
  readonly y: string;
}

/**
 * The key that signs what is sent to machines. A Send token that was stolen cannot make offers: machines
 * take what is signed by a key that they learned when they registered.
 */
export class DispatchKeys {
  readonly #repository: Repository;
  readonly #clock: Clock;
  #current: SigningKey | undefined;

  constructor(store: DispatchStore, clock: Clock) {
    this.#repository = new Repository(store, COMMON_PARTITION);
    this.#clock = clock;
  }

  /** For `Halfway-Signature`. `audience`: the path of the machine that it is for, which is signed too. */
  async sign(body: string, audience: string): Promise<string> {
    this.#current ??= await this.#latest();
    const iat = Math.floor(this.#clock.wallMs() / 1_000);
    return signDetached(this.#current, body, { aud: audience, iat });
  }

  /** Makes the first key when there is none. The current one is the first. */
  async published(): Promise<readonly Jwk[]> {
    await this.#latest();
    const entries = await this.#repository.range(INDEX, { isDescending: true, limit: KEYS_MAX });
    const records = await this.#repository.getMany(
      SERVER_KEY,
      entries.map(({ member }) => member),
    );
    return records.map(({ value }) => jwkOf(value.kid, pointOf(signingKeyOf(value.secret))));
  }

  /** A new key from now on; the old ones stay published. Other processes go on with the old one until they restart. */
  async rotate(): Promise<void> {
    await this.#add(undefined);
    this.#current = undefined;
  }

  async #latest(): Promise<SigningKey> {
    const [newest] = await this.#repository.range(INDEX, { isDescending: true, limit: 1 });
    if (newest === undefined) {
      await this.#add(1);
      return this.#latest();
    }
    const record = await this.#repository.get(SERVER_KEY, newest.member);
    if (record === undefined) throw new Error('The key that signs offers is gone');
    return { kid: record.value.kid, privateKey: signingKeyOf(record.value.secret) };
  }

  /** `below`: only while there are fewer. */
  async #add(below: number | undefined): Promise<void> {
    const secret = newSigningKey();
    const point = decodeBase64Url(pointOf(signingKeyOf(secret)));
    const kid = await keyIdOf(point ?? new Uint8Array());
    const createdAtMs = this.#clock.wallMs();
    await this.#repository.change(async () => {
      const draft = new Draft();
      const [newest] = await this.#repository.range(INDEX, { isDescending: true, limit: 1 });
      if (below !== undefined && newest !== undefined) return { draft, answer: undefined };
      // Two processes that start at once: the one that was slower takes the other's key.
      if (newest === undefined) draft.unclaimed(INDEX);
      const score = Math.max(createdAtMs, (newest?.score ?? 0) + 1);
      draft.create(SERVER_KEY, kid, { kid, secret, createdAtMs }).add(INDEX, kid, score);
      return { draft, answer: undefined };
    });
  }
}

function jwkOf(kid: string, point: string): Jwk {
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
  };
}
