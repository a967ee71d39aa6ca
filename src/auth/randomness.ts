import { randomFillSync, randomInt, randomUUID } from 'node:crypto';

const SECRET_BYTES = 16;
/** Secrets drawn at a time: one call of the system's generator costs more than the bytes. */
const SECRETS_AT_A_TIME = 256;

/** Unpredictable ids: whoever knows one may use what it names. */
export class Randomness {
  readonly #pool = Buffer.alloc(SECRET_BYTES * SECRETS_AT_A_TIME);
  #next = this.#pool.length;

  uuid(): string {
    return randomUUID();
  }

  /** 128 random bits in lower-case hex. */
  secretHex(): string {
    if (this.#next === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#next = 0;
    }
    const secret = this.#pool.toString('hex', this.#next, this.#next + SECRET_BYTES);
    // A secret that was given out does not stay behind in memory.
    this.#pool.fill(0, this.#next, this.#next + SECRET_BYTES);
    this.#next += SECRET_BYTES;
    return secret;
  }

  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number {
    return randomInt(bound);
  }
}
