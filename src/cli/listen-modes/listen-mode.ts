import type { Answerer } from '../../client/answer.ts';
import type { SenderOffer } from '../../client/sender-offer.ts';

/** What `halfway listen` does with what senders send. */
export interface ListenMode {
  /** Takes or rejects a sender's WebSocket; resolves when it is open. */
  readonly accept: (offer: SenderOffer) => Promise<void>;
  readonly answer: Answerer;
}

/** What is left of a path below the hybrid connection: `/` or `/rest`. */
export function pathBelow(hybridConnection: string, path: string): string {
  const whole = path.startsWith('/') ? path : `/${path}`;
  const prefix = `/${hybridConnection}`.toLowerCase();
  const lower = whole.toLowerCase();
  if (lower === prefix) return '/';
  return lower.startsWith(`${prefix}/`) ? whole.slice(prefix.length) : whole;
}
