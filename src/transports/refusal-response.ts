import type { HttpResponse } from 'uWebSockets.js';
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
    response.endWithoutBody(Buffer.byteLength(body), options.closeConnection);
  } else {
    response.end(body, options.closeConnection);
  }
}
