// Decoding and encoding of parts of URIs, by hand: nothing here throws, whatever a stranger sends.

const utf8 = new TextEncoder();
const utf8Lenient = new TextDecoder('utf-8');

/** Percent-encoded U+FFFD: stands for half a surrogate pair, which has no UTF-8 form. */
const REPLACEMENT = '%EF%BF%BD';

/** Legal in a query, percent-encoded bytes aside. Brackets are, by Java's and .NET's reading. */
const ILLEGAL_IN_QUERY = /%(?![0-9a-f]{2})|[^\w\-.~!$&'()*+,;=:@/?[\]%]/iu;
const ILLEGAL_IN_QUERY_ALL = new RegExp(ILLEGAL_IN_QUERY, 'giu');
const ILLEGAL_IN_PATH = /%(?![0-9a-f]{2})|[^\w\-.~!$&'()*+,;=:@/%]/iu;
const ILLEGAL_IN_PATH_ALL = new RegExp(ILLEGAL_IN_PATH, 'giu');

/**
 * Decodes a form-encoded text once: `+` is a space, `%XX` a byte of UTF-8. What is not decodable stays
 * as it stands (a stray `%`) or becomes U+FFFD (bytes that are not UTF-8).
 */
export function formDecode(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text;
  if (!spaced.includes('%')) return spaced;
  return percentDecode(spaced) ?? decodeLeniently(spaced);
}

/** Decodes `%XX` once; undefined when an escape is broken or the bytes are not UTF-8. */
export function percentDecode(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function decodeLeniently(text: string): string {
  return text.replaceAll(/(?:%[0-9a-f]{2})+/gi, run => {
    const bytes = Uint8Array.from({ length: run.length / 3 }, (_, i) =>
      Number.parseInt(run.slice(i * 3 + 1, i * 3 + 3), 16),
    );
    return utf8Lenient.decode(bytes);
  });
}

/** Percent-encodes what may not stand in a query of a URI; everything else stays byte for byte. */
export function encodeIllegalInQuery(query: string): string {
  if (!ILLEGAL_IN_QUERY.test(query)) return query;
  return query.replaceAll(ILLEGAL_IN_QUERY_ALL, encodeCharacter);
}

/** Percent-encodes what may not stand in a path of a URI; everything else stays byte for byte. */
export function encodeIllegalInPath(path: string): string {
  if (!ILLEGAL_IN_PATH.test(path)) return path;
  return path.replaceAll(ILLEGAL_IN_PATH_ALL, encodeCharacter);
}

/** `encodeURIComponent` that does not throw on half a surrogate pair. */
export function encodeComponent(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    return encodeURIComponent(utf8Lenient.decode(utf8.encode(text)));
  }
}

function encodeCharacter(character: string): string {
  if (character === '%') return '%25';
  try {
    return encodeURIComponent(character);
  } catch {
    return REPLACEMENT;
  }
}

/**
 * Lower case of A to Z alone. The full mapping would fold other letters into ASCII (the Kelvin sign
 * becomes `k`), and two different paths would name one hybrid connection.
 */
export function lowerAscii(text: string): string {
  for (let i = 0; i < text.length; i += 1) {
    if (text.charCodeAt(i) > 0x7f) {
      return text.replaceAll(/[A-Z]+/g, letters => letters.toLowerCase());
    }
  }
  return text.toLowerCase();
}

/** Length of a text in bytes of UTF-8. */
export function utf8Bytes(text: string): number {
  return utf8.encode(text).length;
}
