import type { HeaderPairs } from '../protocol/relayed-headers.ts';
import { header } from './request-snapshot.ts';

/** Sends over this are dropped by uWebSockets.js; our own, smaller limits come first. */
export const BACKPRESSURE_BYTES_MAX = 64 * 1024 * 1024;

/** uWebSockets.js takes every GET with a `Sec-WebSocket-Key` for a handshake, so the rest is checked here. */
export function upgradeFault(
  headers: HeaderPairs,
): 'not-websocket' | 'handshake-malformed' | undefined {
  const upgrade = header(headers, 'upgrade')?.toLowerCase().split(',') ?? [];
  // Proxies that know no WebSockets strip the header, and would not understand a 101 either.
  if (!upgrade.some(name => name.trim() === 'websocket')) return 'not-websocket';
  const version = header(headers, 'sec-websocket-version') ?? '13';
  return version === '13' ? undefined : 'handshake-malformed';
}

/**
 * uWebSockets.js pings when all but a margin of its idle timeout has passed, and cuts the socket
 * after the margin; the margin follows from the timeout (8 or 16 s in our range).
 */
export function idleTimeoutSeconds(keepAliveMs: number): number {
  const silenceSeconds = Math.round(keepAliveMs / 1000);
  return silenceSeconds + (silenceSeconds >= 16 ? 16 : 8);
}
