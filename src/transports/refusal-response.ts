import type { HttpResponse } from 'uWebSockets.js';
import { reasonPhrase } from '../protocol/relayed-headers.ts';
import { refusalBody } from '../protocol/refusals.ts';
import type { Refused } from '../relay/ports.ts';

/**
 * Writes the relay's own no: the text is the reason phrase, which .NET and Java show as the error
 * message, and stands in the JSON body. Without `Via`, so that a sender can tell it from an answer
 * of its listener. Call it corked.
 */
export function writeRefusal(
  response: HttpResponse,
  refused: Refused,
  options: { readonly closeConnection: boolean; readonly isHead?: boolean },
): void {
  response
    .writeStatus(`${refused.status} ${refused.text}`)
    .writeHeader('Content-Type', 'application/json');
  if (refused.status === 401) response.writeHeader('WWW-Authenticate', 'SharedAccessSignature');
  const body = refusalBody(refused.reason, refused.text);
  if (options.isHead === true) {
    if (options.closeConnection) response.writeHeader('Connection', 'close');
    endWithoutBody(response, Buffer.byteLength(body));
  } else {
    response.end(body, options.closeConnection);
  }
}

/**
 * Writes a listener's no to its sender: its status as it is, its text as far as a status line may hold
 * it. Call it corked.
 */
export function writeRejection(response: HttpResponse, status: number, description: string): void {
  response.writeStatus(`${status} ${reasonPhrase(status, description)}`);
  if (status === 204 || status === 304) {
    response.writeHeader('Connection', 'close');
    endWithoutBody(response, undefined);
  } else response.end('', true);
}

/** What a listener is told that has turned its sender away. Call it corked. */
export function writeGone(response: HttpResponse): void {
  response.writeStatus('410 Gone').end(undefined, true);
}

/**
 * Ends an answer to HEAD, a 204 or a 304. `reportedBytes` is what HEAD is told of the body's length.
 *
 * uWebSockets.js itself must not be given a length: it would wait for so many bytes, and the next
 * request of the connection would find an unanswered one before it.
 */
export function endWithoutBody(response: HttpResponse, reportedBytes: number | undefined): void {
  if (reportedBytes !== undefined) response.writeHeader('Content-Length', String(reportedBytes));
  response.endWithoutBody();
}
