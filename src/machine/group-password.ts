import { randomBytes } from 'node:crypto';
import { MachineError } from './machine-error.ts';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const GENERATED_CHARS = 26;
const OWN_CHARS_MIN = 14;
const DISTINCT_CHARS_MIN = 8;

/** 26 characters of base32, 130 bits: guessing takes longer than anybody has. */
export function generatePassword(): string {
  const bytes = randomBytes(GENERATED_CHARS);
  let text = '';
  for (const byte of bytes) text += ALPHABET[byte % ALPHABET.length] ?? '';
  bytes.fill(0);
  return text;
}

/** Throws a `MachineError` for a password that whoever has the key package would guess. */
export function requireStrong(password: string): void {
  const isLong = password.length >= OWN_CHARS_MIN;
  const isVaried = new Set(password).size >= DISTINCT_CHARS_MIN;
  if (isLong && isVaried) return;
  throw new MachineError(
    'Refused',
    `The group password is too weak: it needs ${OWN_CHARS_MIN} characters at least, ${DISTINCT_CHARS_MIN} of them ` +
      'different; or let one be generated. The server keeps the group key under it, and could try passwords for ever',
  );
}
