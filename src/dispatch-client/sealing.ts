import { decodeBase64Url } from '../crypto/base64url.ts';
import {
  credentialBytes,
  sealEnvelope,
  type Credential,
  type Envelope,
  type KeyHolder,
} from '../crypto/envelope.ts';
import { fingerprintOf } from '../crypto/fingerprint.ts';
import { importPublicKey } from '../crypto/hpke.ts';
import { keyIdOf } from '../crypto/key-id.ts';
import { DispatchError } from './dispatch-error.ts';

/** A public key to seal to, and whose it is: what a server said, checked as far as it can be. */
export interface TargetKey {
  readonly holder: KeyHolder;
  /** The uncompressed point, base64url. */
  readonly point: string;
  /**
   * Of the point, computed here. Whoever compares it with what the machine itself shows knows that the server did
   * not put a key of its own in between.
   */
  readonly fingerprint: string;
}

/** Throws `KeyMismatch` when the point is no public key, or another one than `kid` names. */
export async function targetKeyOf(
  holder: KeyHolder,
  { point, suite }: { readonly point: string; readonly suite: string },
): Promise<TargetKey> {
  const bytes = decodeBase64Url(point);
  if (suite !== 'p256' || bytes === undefined) throw mismatch();
  try {
    await importPublicKey(bytes);
    if ((await keyIdOf(bytes)) !== holder.kid) throw mismatch();
  } catch {
    // Web Crypto and `keyIdOf` say by different errors that it is no point of the curve.
    throw mismatch();
  }
  return { holder, point, fingerprint: fingerprintOf(holder.kid) };
}

/**
 * Seals an account to whoever runs with a connection. It opens for this connection and version alone: 1 when the
 * connection is created, one more each time its credentials are replaced.
 */
export async function sealCredentials(
  key: TargetKey,
  { id, credentialVersion }: { readonly id: string; readonly credentialVersion: number },
  credential: Credential,
): Promise<Envelope> {
  const plaintext = credentialBytes(credential);
  try {
    const purpose = {
      type: 'credential',
      object: 'connection',
      id,
      version: credentialVersion,
    } as const;
    return await sealEnvelope(await recipientOf(key), key.holder, purpose, plaintext);
  } finally {
    plaintext.fill(0);
  }
}

/** Plaintexts are padded to a multiple of this, so that lengths do not show. */
const PADDED_BYTES = 256;

/** Seals an input of a run: any JSON value. It opens for this run and name alone. */
export async function sealInput(
  key: TargetKey,
  { runId, name }: { readonly runId: string; readonly name: string },
  value: unknown,
): Promise<Envelope> {
  const json = new TextEncoder().encode(JSON.stringify(value));
  const plaintext = new Uint8Array(Math.ceil(json.length / PADDED_BYTES) * PADDED_BYTES).fill(0x20);
  plaintext.set(json);
  json.fill(0);
  try {
    const purpose = { type: 'input', runId, name } as const;
    return await sealEnvelope(await recipientOf(key), key.holder, purpose, plaintext);
  } finally {
    plaintext.fill(0);
  }
}

async function recipientOf({
  point,
}: TargetKey): Promise<Awaited<ReturnType<typeof importPublicKey>>> {
  const bytes = decodeBase64Url(point);
  if (bytes === undefined) throw mismatch();
  return importPublicKey(bytes);
}

function mismatch(): DispatchError {
  return new DispatchError(
    'KeyMismatch',
    'The server gave a public key that is not what its id says',
  );
}

const ACCOUNT = /^(?:([^\\@]+)\\)?([^\\]+)$/s;

/**
 * The account that people name: `DOMAIN\user`, `.\user`, `user@domain`, `user`. Of the second form both parts are the
 * user's name, as Windows has it. Undefined for none of these.
 */
export function accountOf(text: string): Omit<Credential, 'password'> | undefined {
  const [, domain = '', user] = ACCOUNT.exec(text) ?? [];
  return user === undefined ? undefined : { domain, user };
}
