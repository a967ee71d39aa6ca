import { decodeBase64Url } from './base64url.ts';

// A key's id as words that two people can compare over the telephone: what is shown at the machine, in the portal and
// on the command line before anything is sealed. Source: job-dispatch.md section 12.6.

/** Of the 32 bytes of a key's id: nobody finds a second key with the same 128 bits. */
const SHOWN_BYTES = 16;
const KEY_ID_BYTES = 32;
const CONSONANTS = 'bdfghjklmnprstvz';
const VOWELS = 'aiou';

/**
 * The fingerprint of the key with this id (`keyIdOf`): eight words of five letters, each two bytes as consonant,
 * vowel, consonant, vowel, consonant, with hyphens between. Throws a RangeError for what is no key's id.
 */
export function fingerprintOf(kid: string): string {
  const bytes = decodeBase64Url(kid);
  if (bytes?.length !== KEY_ID_BYTES) throw new RangeError('a key id has 32 bytes in base64url');
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const words: string[] = [];
  for (let at = 0; at < SHOWN_BYTES; at += 2) words.push(wordOf(view.getUint16(at)));
  return words.join('-');
}

/** Whether what somebody typed is the fingerprint of a key, or its id itself. Case and what is between words do not count. */
export function isFingerprintOf(typed: string, kid: string): boolean {
  return typed.trim() === kid || lettersOf(typed) === lettersOf(fingerprintOf(kid));
}

function lettersOf(text: string): string {
  return text.toLowerCase().replaceAll(/[\s-]+/g, '');
}

function wordOf(value: number): string {
  return [
    CONSONANTS[(value >> 12) & 15],
    VOWELS[(value >> 10) & 3],
    CONSONANTS[(value >> 6) & 15],
    VOWELS[(value >> 4) & 3],
    CONSONANTS[value & 15],
  ].join('');
}
