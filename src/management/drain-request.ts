import { apiError, type ApiAnswer } from './api-answers.ts';
import type { ApiRequest } from './api-request.ts';

const PATH = '/api/drain';
/** On top of the drain's own times: the end of connections, of the process. */
const END_TIME_MS = 5_000;

/** Answers `POST /api/drain`: the node drains as on SIGTERM, and ends. Undefined: the request is for something else. */
export function drainAnswer(
  request: ApiRequest,
  times: { readonly drainDelayMs: number; readonly drainTimeoutMs: number },
  drain: (() => void) | undefined,
): ApiAnswer | undefined {
  if (request.path !== PATH) return undefined;
  if (request.method !== 'POST') {
    const message = `Cannot ${request.method} this: it takes POST`;
    return { ...apiError('MethodNotAllowed', message), allow: 'POST' };
  }
  if (drain === undefined) return apiError('Conflict', 'This node cannot end itself');
  drain();
  const endsWithinMs = times.drainDelayMs + times.drainTimeoutMs + END_TIME_MS;
  return { status: 202, body: { status: 'draining', endsWithinMs } };
}
