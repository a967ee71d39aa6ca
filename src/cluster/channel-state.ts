/**
 * One end of a stream of frames, by the Close frames that have passed it.
 *
 *     open ── sent ──▶ close-sent ── received ──▶ closing ── gone ──▶ gone
 *     open ── received ──▶ close-received ── sent ──▶ closing
 *     any ── gone ──▶ gone
 *
 * A Close ends its own direction only: in `close-sent` fragments still come in, in `close-received` they
 * still go out. `gone` is final.
 */
export type ChannelPhase = 'open' | 'close-sent' | 'close-received' | 'closing' | 'gone';
export type ChannelEvent = 'sent' | 'received' | 'gone';

/** Pure: decides the next phase; what has happened before changes nothing. */
export function advance(phase: ChannelPhase, event: ChannelEvent): ChannelPhase {
  if (phase === 'gone' || event === 'gone') return 'gone';
  if (event === 'sent')
    return canSend(phase) ? (phase === 'open' ? 'close-sent' : 'closing') : phase;
  return canReceive(phase) ? (phase === 'open' ? 'close-received' : 'closing') : phase;
}

export function canSend(phase: ChannelPhase): boolean {
  return phase === 'open' || phase === 'close-received';
}

export function canReceive(phase: ChannelPhase): boolean {
  return phase === 'open' || phase === 'close-sent';
}
