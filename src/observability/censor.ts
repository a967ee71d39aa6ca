const HIDDEN = '[redacted]';

/** The parameters of a relay address that grant something: a token, and the one-time key of a rendezvous. */
const GRANTS = /(\bsb(?:-|%2d)hc(?:-|%2d)(?:token|id)=)[^&#\s"'<>]*/gi;
/** `SharedAccessKey=…` of a connection string, `sig=…` of a token. */
const KEYS = /(\bSharedAccessKey=)[^;\s"']*|(\bsig=)[^&;\s"']*/gi;

/** Tokens and codes of job dispatch, which say by their first letters what they are. */
const DISPATCH_TOKENS = /\b(hw[tma]_|whsec_)[\w.~+/=-]+/g;

/** Blanks the values of `sb-hc-token` and `sb-hc-id` in an address, or in any text that holds addresses. */
export function censorUrl(text: string): string {
  return text.replace(GRANTS, `$1${HIDDEN}`);
}

/** For text of unknown origin, such as the message of an error: addresses, connection strings and tokens. */
export function censorText(text: string): string {
  return censorUrl(text).replace(KEYS, `$1$2${HIDDEN}`).replace(DISPATCH_TOKENS, `$1${HIDDEN}`);
}

/** Fields that are never logged, wherever they stand in `REDACTED_PATHS`. */
export function censorField(value: unknown, path: readonly string[]): unknown {
  const isAddress = ADDRESS_FIELDS.has(path.at(-1) ?? '');
  return isAddress && typeof value === 'string' ? censorUrl(value) : HIDDEN;
}

const ADDRESS_FIELDS = new Set(['url', 'address', 'target']);

const SECRET_FIELDS =
  'token key secret password connectionString primaryKey secondaryKey adminToken apiToken authorization cookie';

const SECRET_HEADERS = ['authorization', 'servicebusauthorization', 'cookie', 'set-cookie'];

/** Named paths, because wildcards double what a line costs. */
export const REDACTED_PATHS: readonly string[] = [
  ...SECRET_FIELDS.split(' '),
  ...ADDRESS_FIELDS,
  ...SECRET_HEADERS.map(name => `headers["${name}"]`),
];
