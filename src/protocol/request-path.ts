import { lowerAscii, percentDecode } from './uri-text.ts';

/** Longest path that is looked at, in characters; clients' paths are far shorter. */
const PATH_CHARS_MAX = 8_192;

/** Longest name of a hybrid connection. Source: protocol reference 6.2. */
const ENTITY_NAME_CHARS_MAX = 260;

/** The path of a request, taken apart once, before anything is looked up or compared. */
export interface RequestPath {
  /** `$hc/…`, any other first segment with a `$` (ours as well), or a hybrid connection's HTTP side. */
  readonly kind: 'websocket' | 'http' | 'reserved';
  /** As sent, without leading slashes and without `$hc/`; for addresses and for forwarding. */
  readonly rawPath: string;
  /** Decoded once, ASCII lower case, empty ones dropped, without `$hc`; for comparing only. */
  readonly segments: readonly string[];
}

const ABSOLUTE_FORM = /^(?:http|ws)s?:\/\/[^/?#]*/i;
/** Anything but what a raw path may hold: no control characters, backslashes or `#`. */
const FORBIDDEN = /[^ -"$-[\]-~\u00a0-\uffff]/;
const CONTROL = /\p{Cc}/u;

/**
 * Takes a request target (its query, if there, is cut off) apart.
 *
 * Undefined when it is malformed: dot segments, also encoded ones; control characters and backslashes;
 * broken escapes and escapes that are not UTF-8; a target that is too long or does not begin with `/`
 * (absolute forms, which proxies send, do count as beginning with one). An encoded slash or backslash
 * is malformed too, unless `encodedSlashes` is `'pass'`: then it separates segments as a plain slash
 * does, since there are clients that escape a whole path as one segment.
 */
export function parseRequestPath(
  rawUrl: string,
  options: { readonly encodedSlashes: 'refuse' | 'pass' },
): RequestPath | undefined {
  const path = pathOf(rawUrl);
  if (path === undefined || path.length > PATH_CHARS_MAX || FORBIDDEN.test(path)) return undefined;

  const raw = withoutLeadingSlashes(path);
  const firstEnd = raw.indexOf('/');
  const first = percentDecode(firstEnd === -1 ? raw : raw.slice(0, firstEnd));
  if (first === undefined) return undefined;

  const isWebSocket = first.length === 3 && first.toLowerCase() === '$hc';
  const rawPath = isWebSocket
    ? withoutLeadingSlashes(firstEnd === -1 ? '' : raw.slice(firstEnd))
    : raw;
  const segments = segmentsOf(rawPath, options.encodedSlashes === 'pass');
  if (segments === undefined) return undefined;

  const kind = isWebSocket ? 'websocket' : first.startsWith('$') ? 'reserved' : 'http';
  return { kind, rawPath, segments };
}

function pathOf(rawUrl: string): string | undefined {
  const queryAt = rawUrl.indexOf('?');
  const target = queryAt === -1 ? rawUrl : rawUrl.slice(0, queryAt);
  if (target.startsWith('/')) return target;
  const absolute = ABSOLUTE_FORM.exec(target);
  if (absolute === null) return undefined;
  return target.length === absolute[0].length ? '/' : target.slice(absolute[0].length);
}

function withoutLeadingSlashes(path: string): string {
  let start = 0;
  while (path.startsWith('/', start)) start += 1;
  return path.slice(start);
}

/** Splits, decodes and folds; undefined when a segment is not acceptable. */
export function segmentsOf(
  rawPath: string,
  encodedSlashesPass: boolean,
): readonly string[] | undefined {
  const segments: string[] = [];
  for (const rawSegment of rawPath.split('/')) {
    if (rawSegment === '') continue;
    if (!rawSegment.includes('%')) {
      if (isDotSegment(rawSegment)) return undefined;
      segments.push(lowerAscii(rawSegment));
      continue;
    }
    const decoded = percentDecode(rawSegment);
    if (decoded === undefined || CONTROL.test(decoded)) return undefined;
    const hasSeparator = decoded.includes('/') || decoded.includes('\\');
    if (hasSeparator && !encodedSlashesPass) return undefined;
    // Whoever reads the path behind us may take a backslash for a slash, so it hides no dots either.
    if (decoded.split(/[/\\]/).some(isDotSegment)) return undefined;
    for (const part of decoded.split('/')) if (part !== '') segments.push(lowerAscii(part));
  }
  return segments;
}

function isDotSegment(segment: string): boolean {
  return segment === '.' || segment === '..';
}

/** The form in which names of hybrid connections are compared: lower case, no slashes around. */
export function entityKey(name: string): string {
  return lowerAscii(name.replaceAll(/^\/+|\/+$/g, ''));
}

/**
 * Whether a hybrid connection may have this name: 1 to 260 characters, letters, digits, `.`, `-`, `_`
 * and `/`, first and last a letter or digit (6.2). Empty and dot segments are refused as well: no
 * request path could reach such a name.
 */
export function isEntityName(name: string): boolean {
  return (
    name.length <= ENTITY_NAME_CHARS_MAX &&
    /^[0-9a-z](?:[0-9a-z._/-]*[0-9a-z])?$/i.test(name) &&
    !name.split('/').some(segment => segment === '' || isDotSegment(segment))
  );
}

/**
 * The names of hybrid connections that a path may belong to, longest first: a name matches when it is a
 * prefix of the path on a segment boundary. Names that are too long to exist are left out, so that a
 * path of thousands of segments costs little.
 */
export function candidateKeys(segments: readonly string[]): readonly string[] {
  const keys: string[] = [];
  let key = '';
  for (const segment of segments) {
    key = key === '' ? segment : `${key}/${segment}`;
    if (key.length > ENTITY_NAME_CHARS_MAX) break;
    keys.push(key);
  }
  return keys.toReversed();
}

/** Stay escaped in a request target: `/ ? # % \` and control characters. */
const KEPT_ESCAPES = /%(?:2f|3f|23|25|5c|[01][0-9a-f]|7f|c2%[89][0-9a-f])/gi;

/**
 * The `requestTarget` of a request message. The path is unescaped, as the real service does it (Java
 * listeners escape it again), except for what would change its meaning; the query is untouched.
 */
export function formatRequestTarget(rawPath: string, userQuery: string): string {
  const path = rawPath.includes('%') ? unescapePath(rawPath) : rawPath;
  return userQuery === '' ? `/${path}` : `/${path}?${userQuery}`;
}

function unescapePath(rawPath: string): string {
  // Escaping the percent sign of an escape makes the one decoding give the escape itself.
  const guarded = rawPath.replaceAll(KEPT_ESCAPES, escape => escape.replaceAll('%', '%25'));
  return percentDecode(guarded) ?? rawPath;
}
