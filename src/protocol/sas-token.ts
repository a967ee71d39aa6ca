import { segmentsOf } from './request-path.ts';
import { encodeComponent, formDecode, lowerAscii } from './uri-text.ts';

/** A SAS token taken apart; whether it is signed by a key we know is for `auth/` to say. */
export interface SasToken {
  /** What the signature was made over: `sr` and `se` exactly as received, with a line feed between. */
  readonly signedText: string;
  /** HMAC-SHA256 in base64, decoded from the URL form but otherwise as received. */
  readonly signature: string;
  /** Seconds since 1970. */
  readonly expiresAtSec: number;
  /** Name of the rule that signed it; compared without regard to case. */
  readonly keyName: string;
  /** Undefined when `sr` names no resource that could be ours: then the token covers nothing. */
  readonly audience: Audience | undefined;
}

/** What a token is good for: a host, and everything at or below a path. */
export interface Audience {
  /** Lower case, without port. */
  readonly host: string;
  /** Decoded, lower case; empty for a whole namespace. */
  readonly segments: readonly string[];
}

/** Longest token text that is looked at, in characters; real ones have about 300. */
const TOKEN_CHARS_MAX = 8_192;
/** As in the libraries (protocol reference 6.2). */
const KEY_NAME_CHARS_MAX = 256;
/** 9999-12-31T23:59:59Z, the end of .NET's calendar; what lies beyond is no second count. */
const EXPIRY_SEC_MAX = 253_402_300_799;

const TOKEN = /^\s*SharedAccessSignature\s+(\S+)\s*$/i;

/**
 * Parses `SharedAccessSignature sr=…&sig=…&se=…&skn=…`, fields in any order. Undefined when it is not
 * of that form. Never throws. Source: protocol reference 2.2.
 */
export function parseSasToken(text: string): SasToken | undefined {
  if (text.length > TOKEN_CHARS_MAX) return undefined;
  const fieldText = TOKEN.exec(text)?.[1];
  if (fieldText === undefined) return undefined;

  const fields = new Map<string, string>();
  for (const field of fieldText.split('&')) {
    if (field === '') continue;
    const equals = field.indexOf('=');
    if (equals === -1) return undefined;
    const name = field.slice(0, equals).toLowerCase();
    if (fields.has(name)) return undefined;
    fields.set(name, field.slice(equals + 1));
  }

  const sr = fields.get('sr') ?? '';
  const se = fields.get('se') ?? '';
  // Base64 has no space: one that appears was a plus that its client forgot to encode.
  const signature = formDecode(fields.get('sig') ?? '').replaceAll(' ', '+');
  const keyName = formDecode(fields.get('skn') ?? '');
  const expiresAtSec = expiryOf(formDecode(se));
  if (sr === '' || signature === '' || keyName === '' || expiresAtSec === undefined) {
    return undefined;
  }
  if (keyName.length > KEY_NAME_CHARS_MAX) return undefined;
  const signedText = signedTextOf(sr, se);
  return { signedText, signature, expiresAtSec, keyName, audience: parseAudience(formDecode(sr)) };
}

function expiryOf(se: string): number | undefined {
  if (!/^\d{1,20}$/.test(se)) return undefined;
  const seconds = Number(se);
  return seconds <= EXPIRY_SEC_MAX ? seconds : undefined;
}

/** The text under the signature: the encoded audience as sent, a line feed, the expiry as sent. */
export function signedTextOf(encodedAudience: string, expiry: string): string {
  return `${encodedAudience}\n${expiry}`;
}

const AUDIENCE =
  /^(?:https?|wss?|sb):\/\/(\[[0-9a-f:.]+\]|[^/?#:@[\]\s\\]+)(?::\d*)?(\/[^?#]*)?(?:[?#].*)?$/is;

/**
 * Reads a decoded `sr`. Clients differ in scheme, port, trailing slash, letter case, and some sign a
 * query along, so host and path are all that counts (2.4). Undefined without a scheme, as Azure has it.
 */
export function parseAudience(audience: string): Audience | undefined {
  const match = AUDIENCE.exec(audience);
  if (match === null) return undefined;
  const [, host = '', path = ''] = match;
  const segments = segmentsOf(path, true);
  return segments === undefined ? undefined : { host: lowerAscii(host), segments };
}

/**
 * Whether an audience covers a resource: its host is one of `hosts` (lower case, no port; an empty list
 * stands for any), and its path a prefix, by segments, of the resource's. An audience without a path
 * covers the whole namespace.
 */
export function audienceCovers(
  audience: Audience,
  resource: { readonly hosts: readonly string[]; readonly segments: readonly string[] },
): boolean {
  if (resource.hosts.length > 0 && !resource.hosts.includes(audience.host)) return false;
  return audience.segments.every((segment, i) => segment === resource.segments[i]);
}

/** An audience as it stands in a token, and under its signature. */
export function encodeAudience(audience: string): string {
  return encodeComponent(audience);
}

/** Writes a token; `signature` is base64, over the text that `signedTextOf` makes of the same values. */
export function formatSasToken(token: {
  readonly encodedAudience: string;
  readonly signature: string;
  readonly expiresAtSec: number;
  readonly keyName: string;
}): string {
  const { encodedAudience, signature, expiresAtSec, keyName } = token;
  return (
    `SharedAccessSignature sr=${encodedAudience}&sig=${encodeComponent(signature)}` +
    `&se=${expiresAtSec}&skn=${encodeComponent(keyName)}`
  );
}
