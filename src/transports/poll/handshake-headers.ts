import { randomBytes } from 'node:crypto';
import type { HeaderPairs } from '../../protocol/relayed-headers.ts';

/** RFC 6455, section 4.1. */
const KEY_BYTES = 16;

/** What belongs to the request that opens a session, or is made up below. */
const REPLACED: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'content-type',
  'keep-alive',
  'sec-websocket-key',
  'sec-websocket-version',
  'transfer-encoding',
  'upgrade',
]);

/**
 * The headers of a session's opening as those of the handshake that it stands for: listeners are shown
 * them, and those of Node turn away what has no `Sec-WebSocket-Key`.
 */
export function handshakeHeaders(headers: HeaderPairs): HeaderPairs {
  return [
    ...headers.filter(([name]) => !REPLACED.has(name)),
    ['connection', 'Upgrade'],
    ['upgrade', 'websocket'],
    ['sec-websocket-version', '13'],
    ['sec-websocket-key', randomBytes(KEY_BYTES).toString('base64')],
  ];
}
