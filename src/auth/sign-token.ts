import { createHmac } from 'node:crypto';
import { encodeAudience, formatSasToken, signedTextOf } from '../protocol/sas-token.ts';

/**
 * HMAC-SHA256 of a signed text, in base64. The key is used as UTF-8 text: a key that looks like base64
 * is not decoded. Source: protocol reference 2.3.
 */
export function signatureOf(signedText: string, key: string): string {
  return createHmac('sha256', key).update(signedText).digest('base64');
}

/** Makes a SAS token for an audience as given by `tokenAudience`. */
export function signToken(what: {
  readonly audience: string;
  readonly keyName: string;
  readonly key: string;
  readonly expiresAtSec: number;
}): string {
  const encodedAudience = encodeAudience(what.audience);
  const signature = signatureOf(signedTextOf(encodedAudience, String(what.expiresAtSec)), what.key);
  const { expiresAtSec, keyName } = what;
  return formatSasToken({ encodedAudience, signature, expiresAtSec, keyName });
}

/**
 * The audience that Azure's .NET client signs: `http://host/path/`, whatever the endpoint's scheme and
 * port. `endpoint` is a URL or a bare host; its own path and query are dropped. An empty `path` stands
 * for the whole namespace.
 */
export function tokenAudience(endpoint: string, path: string): string {
  const authority = endpoint.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '').replace(/[/?#].*$/s, '');
  const host = authority.replace(/:\d*$/, '');
  const trimmed = path.replaceAll(/^\/+|\/+$/g, '');
  return trimmed === '' ? `http://${host}/` : `http://${host}/${trimmed}/`;
}
