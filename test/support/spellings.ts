/** A secret as it might stand somewhere: under each name the bytes to look for. */
export function spellingsOf(secret: string): ReadonlyMap<string, Buffer> {
  const utf8 = Buffer.from(secret);
  const base64 = [0, 1, 2].map(shift => base64Of(utf8, shift));
  const spellings: readonly (readonly [string, string | Buffer])[] = [
    ['UTF-8', utf8],
    ['UTF-16', Buffer.from(secret, 'utf16le')],
    ['UTF-16, big-endian', Buffer.from(secret, 'utf16le').swap16()],
    ['hex', utf8.toString('hex')],
    ['hex in capitals', utf8.toString('hex').toUpperCase()],
    ['URL', encodeURIComponent(secret)],
    ['form', new URLSearchParams([['', secret]]).toString().slice(1)],
    ['JSON', JSON.stringify(secret).slice(1, -1)],
    ['reversed', Buffer.from(utf8.toReversed())],
    ...base64.map((text, shift) => [`base64, ${shift} behind`, text] as const),
    ...base64.map((text, shift) => [`base64url, ${shift} behind`, urlSafe(text)] as const),
  ];
  return new Map(spellings.map(([name, text]) => [name, Buffer.from(text)]));
}

/** Under which spellings bytes hold a secret. */
export function spellingsIn(bytes: Uint8Array, secret: string): readonly string[] {
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return [...spellingsOf(secret)]
    .filter(([, spelling]) => haystack.includes(spelling))
    .map(([name]) => name);
}

/** What stands in base64 for it, whatever stands before and behind. */
function base64Of(bytes: Buffer, shift: number): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
  return text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6));
}

function urlSafe(base64: string): string {
  return base64.replaceAll('+', '-').replaceAll('/', '_');
}
