// HPKE (RFC 9180), base mode: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. One message an
// encapsulation. Over Web Crypto, so that the very same code seals in browsers and in Node.

type Bytes = Uint8Array<ArrayBuffer>;

const { subtle } = globalThis.crypto;

// By way of `subtle`, since Node and browsers name these types in different places.
export type Key = Parameters<typeof subtle.exportKey>[1];
export interface KeyPair {
  readonly publicKey: Key;
  readonly privateKey: Key;
}

const utf8 = new TextEncoder();

const KEM_ID = 0x0010;
const KDF_ID = 0x0001;
const AEAD_ID = 0x0002;
const KEM_SUITE = concat(utf8.encode('KEM'), uint16(KEM_ID));
const HPKE_SUITE = concat(utf8.encode('HPKE'), uint16(KEM_ID), uint16(KDF_ID), uint16(AEAD_ID));
const VERSION = utf8.encode('HPKE-v1');
const MODE_BASE = 0x00;
const NOTHING = new Uint8Array(0);
const ECDH = { name: 'ECDH', namedCurve: 'P-256' } as const;

/** An uncompressed point: 0x04, x, y. */
export const PUBLIC_KEY_BYTES = 65;
export const SCALAR_BYTES = 32;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const HASH_BYTES = 32;
export const TAG_BYTES = 16;

export interface Sealed {
  /** The ephemeral public key, an uncompressed point. */
  readonly enc: Bytes;
  /** Ciphertext with its tag of 16 bytes behind. */
  readonly ct: Bytes;
}

/** What a message is bound to: it opens with exactly the same. */
export interface Binding {
  readonly info: Bytes;
  readonly aad: Bytes;
}

/** Checks and imports a point. Rejects when it is not on the curve. */
export function importPublicKey(point: Bytes): Promise<Key> {
  return subtle.importKey('raw', point, ECDH, true, []);
}

/**
 * Encrypts to the holder of a public key. `ephemeral` is for test vectors only: a pair must never be
 * used twice.
 */
export async function seal(
  recipient: Key,
  { info, aad }: Binding,
  plaintext: Bytes,
  ephemeral?: KeyPair,
): Promise<Sealed> {
  const pair = ephemeral ?? (await subtle.generateKey(ECDH, false, ['deriveBits']));
  const enc = await exportPoint(pair.publicKey);
  const shared = await sharedSecret(pair.privateKey, recipient, enc, await exportPoint(recipient));
  const { key, nonce } = await schedule(shared, info, 'encrypt');
  const ct = await subtle.encrypt(
    { name: 'AES-GCM', iv: nonce, additionalData: aad, tagLength: TAG_BYTES * 8 },
    key,
    plaintext,
  );
  return { enc, ct: new Uint8Array(ct) };
}

/**
 * Decrypts. Undefined when the message was made for another key or bound to something else, was
 * changed, or `enc` is no point of the curve.
 */
export async function open(
  recipient: KeyPair,
  { info, aad }: Binding,
  { enc, ct }: Sealed,
): Promise<Bytes | undefined> {
  try {
    const sender = await importPublicKey(enc);
    const own = await exportPoint(recipient.publicKey);
    const shared = await sharedSecret(recipient.privateKey, sender, enc, own);
    const { key, nonce } = await schedule(shared, info, 'decrypt');
    const plaintext = await subtle.decrypt(
      { name: 'AES-GCM', iv: nonce, additionalData: aad, tagLength: TAG_BYTES * 8 },
      key,
      ct,
    );
    return new Uint8Array(plaintext);
  } catch (error) {
    // Web Crypto says no by OperationError (tag) or DataError (point); anything else is a fault of ours.
    if (error instanceof DOMException) return undefined;
    throw error;
  }
}

/** DeriveKeyPair's candidates, RFC 9180 section 7.1.3: the scalar that so many bytes of key material give. */
export async function deriveScalar(keyMaterial: Bytes): Promise<Bytes> {
  const prk = await labeledExtract(KEM_SUITE, NOTHING, 'dkp_prk', keyMaterial);
  for (let counter = 0; counter < CANDIDATES_MAX; counter += 1) {
    const info = new Uint8Array([counter]);
    const candidate = await labeledExpand(KEM_SUITE, prk, 'candidate', info, SCALAR_BYTES);
    const scalar = BigInt(`0x${hex(candidate)}`);
    if (scalar > 0n && scalar < P256_ORDER) return candidate;
  }
  throw new Error('no key in 256 candidates');
}

const CANDIDATES_MAX = 256;
const P256_ORDER = 0xffffffff_00000000_ffffffff_ffffffff_bce6faad_a7179e84_f3b9cac2_fc632551n;

async function exportPoint(key: Key): Promise<Bytes> {
  return new Uint8Array(await subtle.exportKey('raw', key));
}

async function sharedSecret(
  privateKey: Key,
  publicKey: Key,
  enc: Bytes,
  recipientPoint: Bytes,
): Promise<Bytes> {
  const bits = await subtle.deriveBits({ name: 'ECDH', public: publicKey }, privateKey, 256);
  const prk = await labeledExtract(KEM_SUITE, NOTHING, 'eae_prk', new Uint8Array(bits));
  const context = concat(enc, recipientPoint);
  return labeledExpand(KEM_SUITE, prk, 'shared_secret', context, HASH_BYTES);
}

async function schedule(
  shared: Bytes,
  info: Bytes,
  usage: 'encrypt' | 'decrypt',
): Promise<{ readonly key: Key; readonly nonce: Bytes }> {
  const pskIdHash = await labeledExtract(HPKE_SUITE, NOTHING, 'psk_id_hash', NOTHING);
  const infoHash = await labeledExtract(HPKE_SUITE, NOTHING, 'info_hash', info);
  const context = concat(new Uint8Array([MODE_BASE]), pskIdHash, infoHash);
  const secret = await labeledExtract(HPKE_SUITE, shared, 'secret', NOTHING);
  const keyBytes = await labeledExpand(HPKE_SUITE, secret, 'key', context, KEY_BYTES);
  const nonce = await labeledExpand(HPKE_SUITE, secret, 'base_nonce', context, NONCE_BYTES);
  const key = await subtle.importKey('raw', keyBytes, 'AES-GCM', false, [usage]);
  keyBytes.fill(0);
  return { key, nonce };
}

function labeledExtract(suite: Bytes, salt: Bytes, label: string, material: Bytes): Promise<Bytes> {
  return hmac(
    salt.length === 0 ? new Uint8Array(HASH_BYTES) : salt,
    concat(VERSION, suite, utf8.encode(label), material),
  );
}

/** HKDF-Expand for lengths of at most one block, which is all that this suite needs. */
async function labeledExpand(
  suite: Bytes,
  prk: Bytes,
  label: string,
  info: Bytes,
  length: number,
): Promise<Bytes> {
  const labeledInfo = concat(uint16(length), VERSION, suite, utf8.encode(label), info);
  const block = await hmac(prk, concat(labeledInfo, new Uint8Array([1])));
  return block.slice(0, length);
}

async function hmac(key: Bytes, message: Bytes): Promise<Bytes> {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const imported = await subtle.importKey('raw', key, algorithm, false, ['sign']);
  return new Uint8Array(await subtle.sign('HMAC', imported, message));
}

function uint16(value: number): Bytes {
  return new Uint8Array([value >> 8, value & 0xff]);
}

function concat(...parts: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}
