import { pollSessionIdParts, type PollSessionId } from '../../protocol/poll-session.ts';
import type { PollDoor, PollsElsewhere } from '../../relay/poll-door.ts';
import type { PollSessions } from './poll-sessions.ts';

/** The door behind which a session is, or why there is none. */
export type FoundDoor =
  | { readonly door: PollDoor }
  | { readonly reason: 'session-unknown' | 'session-gone' };

/** Finds the node of a session by its id. `elsewhere` undefined: this node is alone. */
export function findDoor(
  id: PollSessionId,
  here: PollSessions,
  elsewhere: PollsElsewhere | undefined,
): FoundDoor {
  const { nodeTag } = pollSessionIdParts(id);
  if (nodeTag === here.nodeTag) {
    const reason = here.faultOf(id);
    return reason === undefined ? { door: here } : { reason };
  }
  if (elsewhere === undefined) return { reason: 'session-unknown' };
  const door = elsewhere.doorOf(nodeTag);
  return door === undefined ? { reason: 'session-gone' } : { door };
}
