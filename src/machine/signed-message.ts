import { createPublicKey, type KeyObject } from 'node:crypto';
import { openDetached } from '../crypto/es256.ts';
import type { DispatchKey } from './registration-record.ts';

/** Why a message is not taken for one of the control plane's. */
export type SignatureFault =
  | 'no signature'
  /** Of a key that was not pinned, or not over this body. */
  | 'bad signature'
  /** Meant for another machine, or for this one in another environment. */
  | 'wrong audience'
  /** Made long ago, or in the future: somebody kept it. */
  | 'too old';

/** Beyond what clocks may be apart and offers are under way. */
const AGE_MS_MAX = 10 * 60_000;

/** Checks that messages come from the control plane that this machine was registered with. */
export class SignatureCheck {
  readonly #pinned: () => readonly DispatchKey[];
  readonly #audience: string;
  readonly #serverNowMs: () => number;

  /**
   * `pinned` is asked each time: keys are replaced by successors. `audience`: the machine's path in the relay.
   * `serverNowMs`: the signer's clock, as far as it is known.
   */
  constructor(of: {
    readonly pinned: () => readonly DispatchKey[];
    readonly audience: string;
    readonly serverNowMs: () => number;
  }) {
    this.#pinned = of.pinned;
    this.#audience = of.audience;
    this.#serverNowMs = of.serverNowMs;
  }

  /** Undefined when all is well. `header`: of `Halfway-Signature`. */
  faultOf(header: string | undefined, body: string): SignatureFault | undefined {
    if (header === undefined || header === '') return 'no signature';
    const fields = openDetached(header, body, kid => this.#keyOf(kid));
    if (fields === undefined) return 'bad signature';
    const { aud, iat } = fields;
    if (aud !== this.#audience) return 'wrong audience';
    const isTimely =
      typeof iat === 'number' && Math.abs(iat * 1_000 - this.#serverNowMs()) <= AGE_MS_MAX;
    return isTimely ? undefined : 'too old';
  }

  #keyOf(kid: string): KeyObject | undefined {
    const key = this.#pinned().find(one => one.kid === kid);
    if (key === undefined) return undefined;
    const { kty, crv, x, y } = key;
    return createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' });
  }
}
