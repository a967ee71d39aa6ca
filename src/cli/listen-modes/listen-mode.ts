import type { Clock } from '../../base/clock.ts';
import type { Answerer } from '../relay-client/answer.ts';
import type { Accept } from '../relay-client/control-link.ts';
import { dial, HandshakeRefused, type FrameSocket } from '../relay-client/frame-socket.ts';

/** What `halfway listen` does with what senders send. */
export interface ListenMode {
  /** Takes or rejects a sender's WebSocket; resolves when it is open. */
  readonly accept: (accept: Accept) => Promise<void>;
  readonly answer: Answerer;
}

/** The subprotocols a sender offers, in its order. */
export function offeredProtocols(accept: Accept): readonly string[] {
  const entry = Object.entries(accept.connectHeaders).find(
    ([name]) => name.toLowerCase() === 'sec-websocket-protocol',
  );
  return (entry?.[1] ?? '')
    .split(',')
    .map(protocol => protocol.trim())
    .filter(protocol => protocol !== '');
}

/** Opens the sender's WebSocket with the first subprotocol that it offers, as Azure's clients do. */
export function takeSender(accept: Accept, clock: Clock): Promise<FrameSocket> {
  return dial(accept.address, { clock, protocols: offeredProtocols(accept).slice(0, 1) });
}

/** Turns a sender away; it gets `status` and `reason` as the answer to its handshake. */
export async function rejectSender(
  accept: Accept,
  no: { readonly clock: Clock; readonly status: number; readonly reason: string },
): Promise<void> {
  const description = encodeURIComponent(no.reason);
  const query = `sb-hc-statusCode=${no.status}&sb-hc-statusDescription=${description}`;
  try {
    const socket = await dial(`${accept.address}&${query}`, { clock: no.clock });
    socket.destroy();
  } catch (error) {
    // 410 is how the relay says that it has passed the rejection on.
    if (!(error instanceof HandshakeRefused && error.status === 410)) throw error;
  }
}

/** What is left of a path below the hybrid connection: `/` or `/rest`. */
export function pathBelow(hybridConnection: string, path: string): string {
  const whole = path.startsWith('/') ? path : `/${path}`;
  const prefix = `/${hybridConnection}`.toLowerCase();
  const lower = whole.toLowerCase();
  if (lower === prefix) return '/';
  return lower.startsWith(`${prefix}/`) ? whole.slice(prefix.length) : whole;
}
