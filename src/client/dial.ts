import type { Clock } from '../base/clock.ts';
import { dialWebSocket } from './dial-websocket.ts';
import type { Dial } from './frame-channel.ts';
import type { Routes } from './routes.ts';

/** Which transport carries frames; `auto` begins with WebSocket and falls back where it cannot pass. */
export type TransportChoice = 'auto' | 'websocket' | 'poll';

/** The one place where a transport is chosen. */
export function makeDial(options: {
  readonly transport: TransportChoice;
  readonly routes: Routes;
  readonly clock: Clock;
}): Dial {
  return dialWebSocket(options.routes);
}
