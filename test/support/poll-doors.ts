import type { Clock } from '../../src/base/clock.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { PollBatch } from '../../src/protocol/poll-frames.ts';
import type { PollProgress, PollQuestion, PollSessionId } from '../../src/protocol/poll-session.ts';
import { Randomness } from '../../src/auth/randomness.ts';
import { Outbox } from '../../src/transports/outbox.ts';
import { PollSessions, type PollLimits } from '../../src/transports/poll/poll-sessions.ts';
import type { PollDoor } from '../../src/relay/poll-door.ts';
import type { NotTaken, PollCarrier } from './poll-client.ts';

const LIMITS: PollLimits = {
  sessionsMax: 10,
  holdMs: 25_000,
  expiryMs: 60_000,
  lingerMs: 10_000,
  windowBytes: 1_048_576,
};

/** Sessions without a server. */
export function pollSessions(
  options: {
    readonly clock?: Clock;
    readonly limits?: Partial<PollLimits>;
    readonly nodeTag?: string;
  } = {},
): { readonly sessions: PollSessions; readonly outbox: Outbox } {
  const outbox = new Outbox();
  const random = new Randomness();
  const sessions = new PollSessions({
    clock: options.clock ?? systemClock,
    outbox,
    secretHex: () => random.secretHex(),
    nodeTag: options.nodeTag ?? '',
    limits: { ...LIMITS, ...options.limits },
  });
  return { sessions, outbox };
}

/** A client's requests straight to a door. */
export function doorCarrier(door: PollDoor, id: PollSessionId): PollCarrier {
  const bytesMax = 1_000_000;
  return {
    poll: (question: PollQuestion) =>
      new Promise<PollBatch | NotTaken>(resolve => {
        door.poll(id, { ...question, bytesMax }, resolve);
      }),
    post: (batch: PollBatch) =>
      new Promise<PollProgress | NotTaken>(resolve => {
        door.post(id, batch, resolve);
      }),
    end: () =>
      new Promise(resolve => {
        door.end(id, resolve);
      }),
  };
}
