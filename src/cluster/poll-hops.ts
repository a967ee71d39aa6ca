import {
  BATCH_HEADER_BYTES,
  encodePollBatch,
  parsePollBatch,
  pollFrameBytes,
  type PollBatch,
  type PollFrame,
} from '../protocol/poll-frames.ts';
import {
  isPollSessionId,
  type PollProgress,
  type PollSessionId,
} from '../protocol/poll-session.ts';
import type { MeshMessage } from '../protocol/mesh-frames.ts';
import { meshHeadOf, meshMessage } from '../protocol/mesh-messages.ts';
import { isRefusalReason } from '../protocol/refusals.ts';
import type { Poll, PollDoor, PollRefused, PollsElsewhere } from '../relay/poll-door.ts';
import type { Mesh } from './mesh.ts';
import type { Answer, MeshReply } from './mesh-wire.ts';

/**
 * Longest batch in one message of a link. Links carry offers and answers too, which should not wait
 * behind much; and sessions repeat what is lost, so they need no stream of their own.
 */
const HOP_BATCH_BYTES_MAX = 131_072;
/** What an answer may take beyond the time that a poll is held. */
const ANSWER_GRACE_MS = 5_000;

export interface PollHopsDeps {
  readonly mesh: Pick<Mesh, 'request'>;
  /** The node of a tag; undefined: nobody alive has it. */
  readonly nodeOfTag: (tag: string) => string | undefined;
  /** How long a node holds a poll at most. */
  readonly holdMs: number;
}

/** Requests of long-poll sessions that come to another node than the session's own. */
export class PollHops implements PollsElsewhere {
  readonly #deps: PollHopsDeps;
  #here: PollDoor | undefined;

  constructor(deps: PollHopsDeps) {
    this.#deps = deps;
  }

  /** The door to this node's own sessions; without one other nodes are told to try again. */
  serve(here: PollDoor): void {
    this.#here = here;
  }

  doorOf(nodeTag: string): PollDoor | undefined {
    const node = this.#deps.nodeOfTag(nodeTag);
    return node === undefined ? undefined : new RemoteDoor(node, this.#deps);
  }

  /** Another node says something. False: it is not about sessions. */
  said(message: MeshMessage, answer: Answer | undefined): boolean {
    const poll = meshHeadOf('poll', message);
    if (poll !== undefined) {
      const { session, ...asked } = poll;
      const bytesMax = Math.min(asked.bytesMax, HOP_BATCH_BYTES_MAX);
      this.#atDoor(session, answer, (door, id) => {
        // Whoever asked may be gone when it is answered: what it would have got is sent again.
        door.poll(id, pollOf({ ...asked, bytesMax }), given => {
          if ('reason' in given) answer?.(refusal(given));
          else if (answer?.(meshMessage('poll-answer', {}, encodePollBatch(given))) === false) {
            answer(refusal({ reason: 'overloaded' }));
          }
        });
      });
      return true;
    }
    const post = meshHeadOf('poll-post', message);
    if (post !== undefined) {
      this.#atDoor(post.session, answer, (door, id) => {
        // Frames are kept, and the message is lent.
        const batch = parsePollBatch(message.body.slice());
        if (typeof batch === 'string')
          answer?.(refusal({ reason: 'poll-malformed', detail: batch }));
        else
          door.post(id, batch, given =>
            answer?.('reason' in given ? refusal(given) : progress(given)),
          );
      });
      return true;
    }
    const end = meshHeadOf('poll-end', message);
    if (end === undefined) return false;
    this.#atDoor(end.session, answer, (door, id) => {
      door.end(id, given => answer?.(given === 'ended' ? ENDED : refusal(given)));
    });
    return true;
  }

  #atDoor(
    session: string,
    answer: Answer | undefined,
    enter: (door: PollDoor, id: PollSessionId) => void,
  ): void {
    if (!isPollSessionId(session)) answer?.(refusal({ reason: 'session-unknown' }));
    else if (this.#here === undefined) answer?.(refusal({ reason: 'overloaded' }));
    else enter(this.#here, session);
  }
}

const ENDED = meshMessage('poll-answer', {});

/** The door of one other node. */
class RemoteDoor implements PollDoor {
  readonly #node: string;
  readonly #deps: PollHopsDeps;

  constructor(node: string, deps: PollHopsDeps) {
    this.#node = node;
    this.#deps = deps;
  }

  poll(
    id: PollSessionId,
    poll: Poll,
    answered: (answer: PollBatch | PollRefused) => void,
  ): () => void {
    let isWanted = true;
    const timeoutMs = Math.min(poll.waitMs ?? Infinity, this.#deps.holdMs) + ANSWER_GRACE_MS;
    const bytesMax = Math.min(poll.bytesMax, HOP_BATCH_BYTES_MAX);
    this.#ask(meshMessage('poll', { session: id, ...poll, bytesMax }), timeoutMs, reply => {
      if (isWanted) answered(batchOf(reply));
    });
    return () => {
      isWanted = false;
    };
  }

  /**
   * Long batches go in parts, each after the one before was taken. When a later one is refused, the
   * earlier ones stay taken, as the progress in the refusal says.
   */
  post(
    id: PollSessionId,
    batch: PollBatch,
    answered: (answer: PollProgress | PollRefused) => void,
  ): void {
    const { part, rest } = cutAt(batch, HOP_BATCH_BYTES_MAX);
    const message = meshMessage('poll-post', { session: id }, encodePollBatch(part));
    this.#ask(message, ANSWER_GRACE_MS, reply => {
      const progressed = progressOf(reply);
      if (rest === undefined || 'reason' in progressed) answered(progressed);
      else this.post(id, rest, answered);
    });
  }

  end(id: PollSessionId, answered: (answer: 'ended' | PollRefused) => void): void {
    this.#ask(meshMessage('poll-end', { session: id }), ANSWER_GRACE_MS, reply => {
      answered(refusedIn(reply) ?? 'ended');
    });
  }

  #ask(message: MeshMessage, timeoutMs: number, replied: (reply: MeshReply) => void): void {
    // A question never rejects: no link, no room and no answer are replies of their own.
    void this.#deps.mesh.request(this.#node, message, timeoutMs).then(replied);
  }
}

function cutAt(
  batch: PollBatch,
  bytesMax: number,
): { readonly part: PollBatch; readonly rest: PollBatch | undefined } {
  let bytes = BATCH_HEADER_BYTES;
  let count = 0;
  for (const frame of batch.frames) {
    bytes += pollFrameBytes(frame);
    if (bytes > bytesMax && count > 0) break;
    count += 1;
  }
  if (count === batch.frames.length) return { part: batch, rest: undefined };
  const frames = (from: number, to?: number): readonly PollFrame[] => batch.frames.slice(from, to);
  return {
    part: { ...batch, frames: frames(0, count) },
    rest: { ...batch, seq: batch.seq + count, frames: frames(count) },
  };
}

function pollOf({
  turn,
  ack,
  credit,
  bytesMax,
  from,
  waitMs,
}: {
  readonly turn: number;
  readonly ack: number;
  readonly credit: number;
  readonly bytesMax: number;
  readonly from?: number | undefined;
  readonly waitMs?: number | undefined;
}): Poll {
  return {
    turn,
    ack,
    credit,
    bytesMax,
    ...(from === undefined ? {} : { from }),
    ...(waitMs === undefined ? {} : { waitMs }),
  };
}

function refusal({ reason, detail, progress: known }: PollRefused): MeshMessage {
  return meshMessage('poll-answer', { reason, detail, ack: known?.ack, credit: known?.credit });
}

function progress({ ack, credit }: PollProgress): MeshMessage {
  return meshMessage('poll-answer', { ack, credit });
}

function batchOf(reply: MeshReply): PollBatch | PollRefused {
  const refused = refusedIn(reply);
  if (refused !== undefined) return refused;
  const batch = reply.type === 'answered' ? parsePollBatch(reply.message.body.slice()) : '';
  return typeof batch === 'string' ? { reason: 'internal' } : batch;
}

function progressOf(reply: MeshReply): PollProgress | PollRefused {
  const refused = refusedIn(reply);
  if (refused !== undefined) return refused;
  const head = reply.type === 'answered' ? meshHeadOf('poll-answer', reply.message) : undefined;
  const { ack, credit } = head ?? {};
  return ack === undefined || credit === undefined ? { reason: 'internal' } : { ack, credit };
}

/** Why the other node, or the way to it, says no; undefined: it does not. */
function refusedIn(reply: MeshReply): PollRefused | undefined {
  if (reply.type === 'failed') {
    // An older node has no sessions; one that cannot be reached now may be in a moment.
    return { reason: reply.why === 'not-understood' ? 'session-gone' : 'overloaded' };
  }
  const head = meshHeadOf('poll-answer', reply.message);
  if (head === undefined) return { reason: 'internal' };
  const { reason, detail, ack, credit } = head;
  if (reason === undefined) return undefined;
  return {
    reason: isRefusalReason(reason) ? reason : 'internal',
    detail,
    progress: ack === undefined || credit === undefined ? undefined : { ack, credit },
  };
}
