import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { decodeBase64Url, encodeBase64Url } from './base64url.ts';
import { contextBytes, LABEL } from './context.ts';
import { SCALAR_BYTES, TAG_BYTES } from './hpke.ts';
import { openingKeyOf, type OpeningKey } from './key-pair.ts';
import { isKdfAcceptable, KDF_DEFAULT, masterOf, SALT_BYTES } from './password-key.ts';
import type { KdfParameters } from './password-key.ts';

/** A group's private key under its password: what joining machines are handed. Source: job-dispatch.md 12.4. */
export interface GroupPackage {
  readonly v: 1;
  readonly groupId: string;
  readonly kid: string;
  readonly generation: number;
  readonly suite: 'p256';
  readonly kdf: KdfParameters & { readonly salt: string };
  readonly nonce: string;
  readonly wrapped: string;
}

export type UnwrapFault =
  /** The server asks for less work than a client does: somebody wants to guess. */
  | 'kdf-too-weak'
  | 'malformed'
  /** The password is wrong, or the package was changed. */
  | 'wrong-password'
  /** It opened, but it is not the key that the group is known by. */
  | 'wrong-key';

const NONCE_BYTES = 12;
const KEK_BYTES = 32;

/** Wraps a group's scalar under a password. `random` is for test vectors only. */
export async function wrapGroupKey(
  scalar: Uint8Array,
  about: { readonly groupId: string; readonly kid: string; readonly generation: number },
  password: string,
  random: { readonly salt: Uint8Array; readonly nonce: Uint8Array } = {
    salt: randomBytes(SALT_BYTES),
    nonce: randomBytes(NONCE_BYTES),
  },
): Promise<GroupPackage> {
  const kdf = { ...KDF_DEFAULT, salt: encodeBase64Url(random.salt) };
  const kek = await wrappingKey(password, random.salt, { ...about, kdf });
  const cipher = createCipheriv('aes-256-gcm', kek, random.nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(authenticated({ ...about, kdf }));
  const wrapped = Buffer.concat([cipher.update(scalar), cipher.final(), cipher.getAuthTag()]);
  kek.fill(0);
  return {
    v: 1,
    ...about,
    suite: 'p256',
    kdf,
    nonce: encodeBase64Url(random.nonce),
    wrapped: encodeBase64Url(wrapped),
  };
}

/** Unwraps a group's scalar, to be wiped, and its key; `expectedKid` is the key that the group is known by. */
export async function unwrapGroupKey(
  wrapped: GroupPackage,
  password: string,
  expectedKid: string,
): Promise<{ readonly key: OpeningKey; readonly scalar: Uint8Array } | UnwrapFault> {
  if (!isKdfAcceptable(wrapped.kdf)) return 'kdf-too-weak';
  const salt = decodeBase64Url(wrapped.kdf.salt);
  const nonce = decodeBase64Url(wrapped.nonce);
  const bytes = decodeBase64Url(wrapped.wrapped);
  if (salt?.length !== SALT_BYTES || nonce?.length !== NONCE_BYTES) return 'malformed';
  if (bytes?.length !== SCALAR_BYTES + TAG_BYTES) return 'malformed';
  const kek = await wrappingKey(password, salt, wrapped);
  const decipher = createDecipheriv('aes-256-gcm', kek, nonce, { authTagLength: TAG_BYTES });
  kek.fill(0);
  decipher.setAAD(authenticated(wrapped));
  decipher.setAuthTag(bytes.subarray(SCALAR_BYTES));
  const scalar = decipher.update(bytes.subarray(0, SCALAR_BYTES));
  try {
    decipher.final();
  } catch {
    // The tag does not fit: this is how GCM says no.
    scalar.fill(0);
    return 'wrong-password';
  }
  const key = await openingKeyOf(scalar);
  if (key.kid === expectedKid && key.kid === wrapped.kid) return { key, scalar };
  scalar.fill(0);
  return 'wrong-key';
}

type Wrapping = Pick<GroupPackage, 'groupId' | 'kid' | 'generation' | 'kdf'>;

async function wrappingKey(
  password: string,
  salt: Uint8Array,
  { groupId, kid, generation, kdf }: Wrapping,
): Promise<Buffer> {
  const master = await masterOf(password, salt, kdf);
  const info = contextBytes(LABEL, 'group-wrap', groupId, kid, String(generation));
  const kek = hkdfSync('sha256', master, new Uint8Array(0), info, KEK_BYTES);
  master.fill(0);
  return Buffer.from(kek);
}

/** The parameters of the package are under its tag, so that nobody changes them unseen. */
function authenticated({ groupId, kid, generation, kdf }: Wrapping): Uint8Array {
  const { name, N, r, p, salt } = kdf;
  const fields = [groupId, kid, String(generation), name, String(N), String(r), String(p), salt];
  return contextBytes(LABEL, 'group-wrap', ...fields);
}
