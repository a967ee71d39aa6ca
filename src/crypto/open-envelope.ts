import { bindingOf, sealedOf, type Credential, type Envelope } from './envelope.ts';
import type { KeyHolder, Purpose } from './envelope.ts';
import { open } from './hpke.ts';
import type { OpeningKey } from './key-pair.ts';

// The opening half. No code of the server may import this file: test/architecture.test.ts watches.

/** Why an envelope stays shut; the domain's codes. */
export type OpeningFault =
  | 'KeyIdUnknown'
  | 'CredentialCannotBeOpened'
  | 'CredentialContextMismatch';

/**
 * Opens an envelope with whichever of the holder's keys it names. `holder` and `purpose` are what the
 * opener itself knows to be true: who it is, and what it was asked to use. The plaintext is to be wiped.
 */
export async function openEnvelope(
  keys: readonly OpeningKey[],
  holder: Omit<KeyHolder, 'kid'>,
  purpose: Purpose,
  envelope: Envelope,
): Promise<Uint8Array<ArrayBuffer> | OpeningFault> {
  const key = keys.find(({ kid }) => kid === envelope.kid);
  if (key === undefined || envelope.suite !== 'p256') return 'KeyIdUnknown';
  const sealed = sealedOf(envelope);
  if (sealed === undefined) return 'CredentialCannotBeOpened';
  const binding = bindingOf({ ...holder, kid: key.kid }, purpose);
  return (await open(key, binding, sealed)) ?? 'CredentialContextMismatch';
}

/** Reads a credential's plaintext; undefined when it is not one. */
export function readCredential(plaintext: Uint8Array): Credential | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plaintext));
  } catch {
    // Sealed by somebody who does not keep to the format; there is nothing of it to show.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  if (!('d' in value && 'p' in value && 'u' in value)) return undefined;
  const { d: domain, p: password, u: user } = value;
  return typeof domain === 'string' && typeof password === 'string' && typeof user === 'string'
    ? { domain, user, password }
    : undefined;
}

/**
 * Reads the plaintext of a sealed input, which is JSON and spaces behind it: of a text its own bytes, of any other
 * value those of its JSON. To be wiped, as the plaintext. Undefined when it is no JSON.
 */
export function readInput(plaintext: Uint8Array): Buffer | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plaintext));
    return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
  } catch {
    // Sealed by somebody who does not keep to the format; there is nothing of it to show.
    return undefined;
  }
}
