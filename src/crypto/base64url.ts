// Base64url without padding (RFC 4648 section 5), in Node and in browsers.

export function encodeBase64Url(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

const BASE64URL = /^[A-Za-z0-9_-]*$/;

/** Undefined for anything that `encodeBase64Url` does not write. */
export function decodeBase64Url(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!BASE64URL.test(text) || text.length % 4 === 1) return undefined;
  const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), character =>
    character.charCodeAt(0),
  );
  // Bits behind the last byte must be zero, or two texts would mean the same.
  return encodeBase64Url(bytes) === text ? bytes : undefined;
}
