import type { Clock } from '../base/clock.ts';
import { dialAuto } from './dial-auto.ts';
import { dialPoll } from './poll/dial-poll.ts';
import { dialWebSocket } from './dial-websocket.ts';
import type { Dial } from './frame-channel.ts';
import type { Routes } from './routes.ts';
import { memoryOf } from './transport-memory.ts';

/** Which transport carries frames; `auto` begins with WebSocket and falls back where it cannot pass. */
export type TransportChoice = 'auto' | 'websocket' | 'poll';

/** The one place where a transport is chosen. */
export function makeDial(options: {
  readonly transport: TransportChoice;
  readonly routes: Routes;
  readonly clock: Clock;
}): Dial {
  const { transport, routes, clock } = options;
  const memory = memoryOf(clock);
  const deps = { routes, clock, memory, chance: Math.random };
  const webSocket = dialWebSocket(routes);
  if (transport === 'websocket') return webSocket;
  if (transport === 'poll') return dialPoll(deps);
  return dialAuto({ webSocket, poll: dialPoll(deps, webSocket), memory, routes });
}
