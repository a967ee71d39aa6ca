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
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #audience: string;
  readonly #serverNowMs: () => number;

  /** `audience`: the machine's path in the relay. `serverNowMs`: the signer's clock, as far as it is known. */
  constructor(of: {
    readonly keys: readonly DispatchKey[];
    readonly audience: string;
    readonly serverNowMs: () => number;
  }) {
    this.#keys = new Map(of.keys.map(key => [key.kid, publicKeyOf(key)]));
    this.#audience = of.audience;
    this.#serverNowMs = of.serverNowMs;
  }

  /** Undefined when all is well. `header`: of `Halfway-Signature`. */
  faultOf(header: string | undefined, body: string): SignatureFault | undefined {
    if (header === undefined || header === '') return 'no signature';
    const fields = openDetached(header, body, kid => this.#keys.get(kid));
    if (fields === undefined) return 'bad signature';
    const { aud, iat } = fields;
    if (aud !== this.#audience) return 'wrong audience';
    const isTimely =
      typeof iat === 'number' && Math.abs(iat * 1_000 - this.#serverNowMs()) <= AGE_MS_MAX;
    return isTimely ? undefined : 'too old';
  }
}

function publicKeyOf({ kty, crv, x, y }: DispatchKey): KeyObject {
  return createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' });
}
