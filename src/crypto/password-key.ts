import { scrypt } from 'node:crypto';

/** How a password becomes a key. The parameters come from a server, which may lie. */
export interface KdfParameters {
  readonly name: 'scrypt';
  readonly N: number;
  readonly r: number;
  readonly p: number;
}

/** OWASP's minimum; about 0.4 s and 128 MiB. */
export const KDF_DEFAULT: KdfParameters = { name: 'scrypt', N: 2 ** 17, r: 8, p: 1 };
const N_MIN = 2 ** 16;
const N_MAX = 2 ** 20;
const R = 8;
const P_MAX = 4;
export const SALT_BYTES = 16;
export const MASTER_BYTES = 32;

/** What a client refuses whoever asks for it: parameters that make guessing cheap, or that take all memory. */
export function isKdfAcceptable({ name, N, r, p }: KdfParameters): boolean {
  const isPowerOfTwo = Number.isSafeInteger(N) && N > 0 && Math.log2(N) % 1 === 0;
  const isInBounds = N >= N_MIN && N <= N_MAX && r === R && p >= 1 && p <= P_MAX;
  return name === 'scrypt' && isPowerOfTwo && isInBounds && Number.isSafeInteger(p);
}

/**
 * The 32 bytes that a password (as typed, but in Unicode's form NFKC) gives. To be wiped. Rejects
 * with a RangeError for parameters that are not acceptable.
 */
export function masterOf(
  password: string,
  salt: Uint8Array,
  kdf: KdfParameters,
): Promise<Uint8Array<ArrayBuffer>> {
  if (!isKdfAcceptable(kdf)) return Promise.reject(new RangeError('KDF parameters out of bounds'));
  const { N, r, p } = kdf;
  // Node's own limit of 32 MiB refuses these costs; scrypt needs 128 N r bytes and a little.
  const maxmem = 128 * N * r + 128 * r * p + 32 * 1024 * 1024;
  const bytes = Buffer.from(password.normalize('NFKC'));
  return new Promise((resolve, reject) => {
    scrypt(bytes, salt, MASTER_BYTES, { N, r, p, maxmem }, (error, master) => {
      bytes.fill(0);
      if (error !== null) {
        reject(error);
        return;
      }
      resolve(Uint8Array.from(master));
      master.fill(0);
    });
  });
}
