import { createDecipheriv, createECDH, createHash, hkdfSync } from 'node:crypto';
import { contextBytes, LABEL } from '../../src/crypto/context.ts';
import type { Envelope, KeyHolder, Purpose } from '../../src/crypto/envelope.ts';
import { unwrapGroupKey, type GroupPackage } from '../../src/crypto/group-package.ts';
import { openingKeyOf } from '../../src/crypto/key-pair.ts';
import { openEnvelope } from '../../src/crypto/open-envelope.ts';

// Somebody who has all that a server has, and tries whatever could be a key.

/** What is to be opened, and all that it was bound to: that is no secret. */
export interface SealedThing {
  readonly name: string;
  readonly envelope: Envelope;
  readonly holder: Omit<KeyHolder, 'kid'>;
  readonly purpose: Purpose;
}

export interface Loot {
  /** Everything that may have a key in it, in whatever form. */
  readonly texts: readonly string[];
  /** What is tried as a password; each takes most of a second. */
  readonly passwords: readonly string[];
  readonly sealed: readonly SealedThing[];
  readonly packages: readonly GroupPackage[];
}

export interface Spoils {
  /** Names of what was opened, and `package <id of group>`. */
  readonly opened: readonly string[];
  /** How many different values of 32 bytes were tried. */
  readonly tried: number;
}

const KEY_BYTES = 32;
const TAG_BYTES = 16;

/** Tries every value as a private key, as that of an encapsulation, and as a key of a package. */
export async function tryEverything({ texts, passwords, sealed, packages }: Loot): Promise<Spoils> {
  const opened = new Set<string>();
  const candidates = new Map(texts.flatMap(valuesIn).map(value => [value.toString('hex'), value]));
  const encapsulated = new Map(sealed.map(thing => [hexOf(thing.envelope.enc), thing.name]));
  const scalars: Buffer[] = [];
  for (const value of candidates.values()) {
    const point = pointOf(value);
    if (point === undefined) continue;
    const name = encapsulated.get(point.toString('hex'));
    if (name !== undefined) opened.add(name);
    if (await isNamed(value, point, sealed)) scalars.push(value);
    for (const one of packages) {
      const scalar = unwrapped(one, value) ?? unwrapped(one, keyOfMaster(one, value));
      if (scalar === undefined) continue;
      opened.add(`package ${one.groupId}`);
      scalars.push(scalar);
    }
  }
  for (const password of passwords) {
    for (const one of packages) {
      const outcome = await unwrapGroupKey(one, password, one.kid);
      if (typeof outcome === 'string') continue;
      opened.add(`package ${one.groupId}`);
      scalars.push(Buffer.from(outcome.scalar));
    }
  }
  for (const scalar of scalars) {
    const key = await openingKeyOf(scalar);
    for (const { name, envelope, holder, purpose } of sealed) {
      const plaintext = await openEnvelope([key], holder, purpose, envelope);
      if (typeof plaintext !== 'string') opened.add(name);
    }
  }
  return { opened: [...opened].toSorted((a, b) => (a < b ? -1 : 1)), tried: candidates.size };
}

/** All values as long as a key: within what base64 or hex decode to at any place, as they stand, and digests of words. */
function valuesIn(text: string): readonly Buffer[] {
  const words = text.match(/[^\s"',:;{}[\]()]+/g) ?? [];
  const encoded = words.flatMap(word => word.match(/[A-Za-z0-9+/_-]{42,}/g) ?? []);
  const decoded = encoded.flatMap(run =>
    [0, 1, 2, 3].map(at => Buffer.from(run.slice(at), 'base64')),
  );
  const hex = words.flatMap(word => word.match(/[\da-fA-F]{64,}/g) ?? []);
  const bytes = hex.flatMap(run => [0, 1].map(at => Buffer.from(run.slice(at), 'hex')));
  const plain = words.map(word => Buffer.from(word));
  const digests = words.map(word => createHash('sha256').update(word).digest());
  return [...decoded, ...bytes, ...plain, ...digests].flatMap(windowsOf);
}

function windowsOf(bytes: Buffer): readonly Buffer[] {
  const count = Math.max(0, bytes.length - KEY_BYTES + 1);
  return Array.from({ length: count }, (_, at) => bytes.subarray(at, at + KEY_BYTES));
}

function pointOf(scalar: Buffer): Buffer | undefined {
  const ecdh = createECDH('prime256v1');
  try {
    ecdh.setPrivateKey(scalar);
    return ecdh.getPublicKey();
  } catch {
    // Not below the order of the curve: no private key.
    return undefined;
  }
}

/** Whether something is sealed to the key of this scalar. */
async function isNamed(
  scalar: Buffer,
  point: Buffer,
  sealed: readonly SealedThing[],
): Promise<boolean> {
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map(part =>
    part.toString('base64url'),
  );
  const jwk = `{"crv":"P-256","kty":"EC","x":"${x}","y":"${y}"}`;
  const kid = createHash('sha256').update(jwk).digest('base64url');
  if (!sealed.some(({ envelope }) => envelope.kid === kid)) return false;
  return (await openingKeyOf(scalar)).kid === kid;
}

function unwrapped({ groupId, kid, generation, kdf, nonce, wrapped }: GroupPackage, kek: Buffer) {
  const { name, N, r, p, salt } = kdf;
  const fields = [groupId, kid, String(generation), name, String(N), String(r), String(p), salt];
  const bytes = Buffer.from(wrapped, 'base64url');
  const iv = Buffer.from(nonce, 'base64url');
  const decipher = createDecipheriv('aes-256-gcm', kek, iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(contextBytes(LABEL, 'group-wrap', ...fields));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  const scalar = decipher.update(bytes.subarray(0, -TAG_BYTES));
  try {
    decipher.final();
    return scalar;
  } catch {
    // The tag does not fit.
    return undefined;
  }
}

/** The key of a package, if the value were what its password gives. */
function keyOfMaster({ groupId, kid, generation }: GroupPackage, master: Buffer): Buffer {
  const info = contextBytes(LABEL, 'group-wrap', groupId, kid, String(generation));
  return Buffer.from(hkdfSync('sha256', master, '', info, KEY_BYTES));
}

function hexOf(base64Url: string): string {
  return Buffer.from(base64Url, 'base64url').toString('hex');
}
