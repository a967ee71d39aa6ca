import { unreachable } from '../base/assert.ts';
import type { HandshakeEnd } from './record-socket.ts';
import type { WireEndReason } from './mesh-wire.ts';

/** Why there is no link: it never came about, or it ended. */
export type Apart =
  | { readonly type: 'new' }
  | {
      readonly type: 'refused';
      readonly by: HandshakeEnd['by'];
      readonly reason: HandshakeEnd['reason'];
    }
  | { readonly type: 'ended'; readonly reason: WireEndReason };

/**
 * The link to one other node.
 *
 *     apart ── due ──▶ dialling ── opened ──▶ up
 *     apart ── opened ──▶ up                        (the other node dialled)
 *     dialling ── refused ──▶ apart
 *     up ── ended ──▶ apart
 *     up ── opened ──▶ up                           (a newer connection takes over)
 *     any ── closed ──▶ closed
 *
 * `closed` is final. `attempts` counts what went wrong in a row: it makes the waits longer, and only a
 * link that stood for a while sets it back, so that one which breaks at once is not dialled in a frenzy.
 */
export type LinkState =
  | { readonly phase: 'apart'; readonly attempts: number; readonly why: Apart }
  | { readonly phase: 'dialling'; readonly attempts: number; readonly why: Apart }
  | { readonly phase: 'up'; readonly attempts: number; readonly sinceMs: number }
  | { readonly phase: 'closed' };

export type LinkEvent =
  | { readonly type: 'due' }
  | { readonly type: 'opened'; readonly atMs: number }
  | {
      readonly type: 'refused';
      readonly by: HandshakeEnd['by'];
      readonly reason: HandshakeEnd['reason'];
    }
  | { readonly type: 'ended'; readonly reason: WireEndReason; readonly atMs: number }
  /** The node is at another address, or another process: what went wrong before says nothing now. */
  | { readonly type: 'changed' }
  | { readonly type: 'closed' };

export const NEW_LINK: LinkState = { phase: 'apart', attempts: 0, why: { type: 'new' } };

/** A link that stood this long has proven that it can. */
export const STEADY_MS = 10_000;

/** Pure: decides the next state; an event that lost its race changes nothing. */
export function advance(state: LinkState, event: LinkEvent): LinkState {
  if (state.phase === 'closed') return state;
  switch (event.type) {
    case 'due':
      return state.phase === 'apart' ? { ...state, phase: 'dialling' } : state;
    case 'opened':
      return { phase: 'up', attempts: state.attempts, sinceMs: event.atMs };
    case 'refused': {
      if (state.phase !== 'dialling') return state;
      const { by, reason } = event;
      const why: Apart = { type: 'refused', by, reason };
      return { phase: 'apart', attempts: state.attempts + 1, why };
    }
    case 'ended': {
      if (state.phase !== 'up') return state;
      const stoodMs = event.atMs - state.sinceMs;
      const attempts = stoodMs >= STEADY_MS ? 0 : state.attempts + 1;
      return { phase: 'apart', attempts, why: { type: 'ended', reason: event.reason } };
    }
    case 'changed':
      return { ...state, attempts: 0 };
    case 'closed':
      return { phase: 'closed' };
    default:
      return unreachable(event);
  }
}

export interface BackOff {
  readonly firstMs: number;
  readonly longestMs: number;
}

/**
 * How long to wait before dialling again: doubled with each attempt up to the longest, of which a random
 * part up to a half is taken off, so that many nodes do not dial a returning one all at once.
 *
 * @param random from 0 to below 1.
 */
export function backOffMs(attempts: number, backOff: BackOff, random: number): number {
  if (attempts === 0) return 0;
  const waitMs = Math.min(backOff.longestMs, backOff.firstMs * 2 ** Math.min(attempts - 1, 20));
  return waitMs * (1 - random / 2);
}
