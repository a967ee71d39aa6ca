import type { Config } from './config/options.ts';
import type { HttpRouteOptions } from './transports/http-route.ts';
import { PollSessions, type PollSessionsDeps } from './transports/poll/poll-sessions.ts';

/** The sessions of this node, with the limits of its configuration. */
export function openPollSessions(
  config: Config,
  deps: Omit<PollSessionsDeps, 'limits'>,
): PollSessions {
  return new PollSessions({
    ...deps,
    limits: {
      sessionsMax: config.pollSessionsMax,
      holdMs: config.pollHoldMs,
      expiryMs: config.pollSessionTimeoutMs,
      lingerMs: config.lingerMs,
      windowBytes: config.pollWindowBytes,
    },
  });
}

/** What the routes of the public port need for sessions, besides what they have. */
export function pollRoutes(
  config: Config,
  deps: Omit<HttpRouteOptions['poll'], 'control' | 'bufferBytesMax' | 'nodeUrl' | 'bodyTimeoutMs'>,
): HttpRouteOptions['poll'] {
  return {
    ...deps,
    control: {
      queueBytesMax: config.controlQueueBytesMax,
      messageBytesMax: config.controlMessageBytesMax,
    },
    bufferBytesMax: config.pollBufferBytesMax,
    nodeUrl: config.nodeUrl,
    bodyTimeoutMs: config.requestTimeoutMs,
  };
}
