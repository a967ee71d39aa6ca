import type { PollBatch } from '../protocol/poll-frames.ts';
import type { PollProgress, PollQuestion, PollSessionId } from '../protocol/poll-session.ts';
import type { RefusalReason } from '../protocol/refusals.ts';

/** A poll as it reaches the session, from an HTTP request or from whatever carries the session on. */
export interface Poll extends PollQuestion {
  /** Number of the first frame that is wanted; by default the one behind `ack`. */
  readonly from?: number;
  /** How many bytes of frames the answer may have; at least one frame comes when there is one. */
  readonly bytesMax: number;
}

/** A request that a session does not take; nothing in the session is changed. */
export interface PollRefused {
  readonly reason: RefusalReason;
  readonly detail?: string | undefined;
  /** How far the relay is, where that helps the client on. */
  readonly progress?: PollProgress | undefined;
}

/**
 * Where the requests of long-poll sessions are taken: by this node, or, for another node's sessions,
 * by way of the mesh. Each `answered` is called once, now or later; for a poll that was cancelled, not
 * at all.
 */
export interface PollDoor {
  /** Returns what cancels it: whoever asked has gone. */
  poll(
    id: PollSessionId,
    poll: Poll,
    answered: (answer: PollBatch | PollRefused) => void,
  ): () => void;
  /** Payloads of the batch are kept, not copied. */
  post(
    id: PollSessionId,
    batch: PollBatch,
    answered: (answer: PollProgress | PollRefused) => void,
  ): void;
  /** Ends the session as if its connection had broken. */
  end(id: PollSessionId, answered: (answer: 'ended' | PollRefused) => void): void;
}

/** The doors of other nodes. */
export interface PollsElsewhere {
  /** Undefined: no node that is alive has this tag, and its sessions are gone. */
  doorOf(nodeTag: string): PollDoor | undefined;
}
