import { createHmac, randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { requireIn, type Caller } from './access.ts';
import { SERVER_KEY } from './records.ts';
import { Draft, type Repository } from './repository.ts';
import { shownSecret } from './webhook-signature.ts';

const KEY_ID = 'callbacks';
const KEY_BYTES = 32;

/**
 * The keys that callbacks are signed with: of each principal of an environment its own, made of one secret, so
 * that who can check the callbacks of his own runs cannot make up those of others.
 */
export class CallbackKeys {
  readonly #repository: Repository;
  readonly #clock: Clock;
  #secret: Buffer | undefined;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  /** The caller's own: `whsec_…`. */
  async read(caller: Caller): Promise<string> {
    requireIn(caller, 'run');
    return shownSecret(await this.keyOf(caller.name));
  }

  /** Base64. */
  async keyOf(principal: string): Promise<string> {
    this.#secret ??= await this.#load();
    return createHmac('sha256', this.#secret).update(`callback ${principal}`).digest('base64');
  }

  async #load(): Promise<Buffer> {
    const secret = await this.#repository.change(async () => {
      const known = await this.#repository.get(SERVER_KEY, KEY_ID);
      if (known !== undefined) return { draft: new Draft(), answer: known.value.secret };
      const made = randomBytes(KEY_BYTES).toString('base64url');
      const value = { kid: KEY_ID, secret: made, createdAtMs: this.#clock.wallMs() };
      return { draft: new Draft().create(SERVER_KEY, KEY_ID, value), answer: made };
    });
    return Buffer.from(secret, 'base64url');
  }
}
