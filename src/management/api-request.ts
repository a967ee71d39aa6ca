import { apiError, type ApiAnswer } from './api-answers.ts';

/** A request to the management API, read whole. */
export interface ApiRequest {
  readonly method: string;
  /** Raw, without the query. */
  readonly path: string;
  readonly body: string;
  /** `Host` as sent: what a client that reaches this node by it may reach the relay by, too. */
  readonly host: string;
  readonly ifMatch?: string;
  readonly ifNoneMatch?: string;
  /** Who asks, for the log. */
  readonly remoteAddress: string;
}

/** What is there when a write is decided: undefined for nothing; `etag` undefined when it never changes. */
export interface Found {
  readonly etag: string | undefined;
}

/** Says no when the conditions of a write do not hold. Source: RFC 9110 section 13. */
export function refusedByCondition(
  { ifMatch, ifNoneMatch }: Pick<ApiRequest, 'ifMatch' | 'ifNoneMatch'>,
  found: Found | undefined,
): ApiAnswer | undefined {
  if (ifMatch !== undefined && !isMet(ifMatch, found)) {
    const message =
      found === undefined
        ? 'Cannot change what is not there: If-Match asks for it'
        : 'Cannot change it: somebody else did, since it was read. Read it again';
    return apiError('PreconditionFailed', message);
  }
  if (ifNoneMatch !== undefined && isMet(ifNoneMatch, found)) {
    return apiError('PreconditionFailed', 'Cannot create it: it is there already');
  }
  return undefined;
}

/** Whether a reader has the newest already. */
export function isNotModified({ ifNoneMatch }: ApiRequest, etag: string | undefined): boolean {
  return ifNoneMatch !== undefined && etag !== undefined && isMet(ifNoneMatch, { etag });
}

function isMet(condition: string, found: Found | undefined): boolean {
  if (found === undefined) return false;
  if (condition.trim() === '*') return true;
  return condition
    .split(',')
    .map(one => one.trim().replace(/^W\//, ''))
    .some(one => found.etag !== undefined && one === `"${found.etag}"`);
}
