import { randomBytes } from 'node:crypto';

const SAS_KEY_BYTES = 32;

/** A new key as Azure makes them: 32 random bytes in base64, 44 characters. Source: protocol reference 2.5. */
export function newSasKey(): string {
  return randomBytes(SAS_KEY_BYTES).toString('base64');
}
