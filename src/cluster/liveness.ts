/**
 * Whether a peer is still there, told by whether anything comes from it. Counted in our own pings and
 * not by the clock: a process that was itself stopped for a while must not take that for the peer's
 * silence.
 */
export interface Liveness {
  readonly silentPings: number;
}

export const ALIVE: Liveness = { silentPings: 0 };

/** Pure: at each ping, whether anything was received since the one before. */
export function atPing(liveness: Liveness, hasHeard: boolean): Liveness {
  return hasHeard ? ALIVE : { silentPings: liveness.silentPings + 1 };
}

export function isSilent(
  liveness: Liveness,
  limits: { readonly pingIntervalMs: number; readonly silenceMs: number },
): boolean {
  return liveness.silentPings * limits.pingIntervalMs >= limits.silenceMs;
}
