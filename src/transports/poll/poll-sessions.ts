import type { Clock } from '../../base/clock.ts';
import type { PollBatch } from '../../protocol/poll-frames.ts';
import { PayloadMemory } from '../../protocol/payload-memory.ts';
import type { PollProgress, PollSessionId } from '../../protocol/poll-session.ts';
import type { Poll, PollDoor, PollRefused } from '../../relay/poll-door.ts';
import type { Outbox } from '../outbox.ts';
import { newPollCounters, type PollCounters, type SessionRole } from './poll-metrics.ts';
import { PollSession } from './poll-session.ts';
import { SessionIds } from './session-ids.ts';

/** Longest batch that is taken or given. */
export const POLL_BATCH_BYTES_MAX = 1_048_576;

/** Memory held ready for what sessions send: what a dozen busy ones need. */
const FREE_BYTES_MAX = 16 << 20;

export interface PollLimits {
  /** Sessions at once, also those that are being opened. */
  readonly sessionsMax: number;
  readonly holdMs: number;
  readonly expiryMs: number;
  readonly lingerMs: number;
  readonly windowBytes: number;
}

export interface PollSessionsDeps {
  readonly clock: Clock;
  readonly outbox: Outbox;
  /** 128 random bits in lower-case hex. */
  readonly secretHex: () => string;
  /** '' for a relay of one node. */
  readonly nodeTag: string;
  readonly limits: PollLimits;
}

/** Room for a session that may come to be. */
export interface ReservedSession {
  /** Once, unless it was released. */
  open(role: SessionRole): { readonly id: PollSessionId; readonly session: PollSession };
  /** Nothing came of it. Safe to call twice, and after `open`. */
  release(): void;
}

interface Entry {
  readonly role: SessionRole;
  readonly session: PollSession;
}

/** The long-poll sessions of this node. */
export class PollSessions implements PollDoor {
  readonly counters: PollCounters = newPollCounters();
  readonly limits: PollLimits;
  readonly #deps: PollSessionsDeps;
  readonly #ids: SessionIds;
  readonly #open = new Map<PollSessionId, Entry>();
  readonly #memory = new PayloadMemory(FREE_BYTES_MAX);
  #reserved = 0;

  constructor(deps: PollSessionsDeps) {
    this.#deps = deps;
    this.limits = deps.limits;
    this.#ids = new SessionIds(deps.nodeTag, deps.secretHex);
  }

  get nodeTag(): string {
    return this.#ids.nodeTag;
  }

  /** Undefined: there are as many as may be. */
  reserve(): ReservedSession | undefined {
    if (this.#open.size + this.#reserved >= this.limits.sessionsMax) return undefined;
    this.#reserved += 1;
    let isReserved = true;
    const release = (): void => {
      if (isReserved) this.#reserved -= 1;
      isReserved = false;
    };
    return {
      open: role => {
        release();
        return this.#add(role);
      },
      release,
    };
  }

  /** Why nobody is behind an id; undefined: somebody is. */
  faultOf(id: PollSessionId): 'session-unknown' | 'session-gone' | undefined {
    if (this.#open.has(id)) return undefined;
    return this.#ids.gaveOut(id) ? 'session-gone' : 'session-unknown';
  }

  poll(
    id: PollSessionId,
    poll: Poll,
    answered: (answer: PollBatch | PollRefused) => void,
  ): () => void {
    const session = this.#find(id, answered);
    return session === undefined ? () => {} : session.poll(poll, answered);
  }

  post(
    id: PollSessionId,
    batch: PollBatch,
    answered: (answer: PollProgress | PollRefused) => void,
  ): void {
    this.#find(id, answered)?.post(batch, answered);
  }

  end(id: PollSessionId, answered: (answer: 'ended' | PollRefused) => void): void {
    const session = this.#find(id, answered);
    if (session === undefined) return;
    session.end();
    answered('ended');
  }

  count(role: SessionRole): number {
    let count = 0;
    for (const entry of this.#open.values()) if (entry.role === role) count += 1;
    return count;
  }

  /** Polls that wait for something to answer. */
  get heldPolls(): number {
    let count = 0;
    for (const { session } of this.#open.values()) if (session.isPolled) count += 1;
    return count;
  }

  /** What the frames in memory count for. */
  get queuedBytes(): number {
    let bytes = 0;
    for (const { session } of this.#open.values()) bytes += session.queuedBytes;
    return bytes;
  }

  /** How many have said their last and wait for the client to have it. */
  get closingCount(): number {
    let count = 0;
    for (const { session } of this.#open.values()) {
      if (session.outgoing.isClosed && !session.outgoing.isDelivered) count += 1;
    }
    return count;
  }

  /** The relay stops: all of them are over. */
  close(): void {
    for (const { session } of this.#open.values()) session.stop();
  }

  #add(role: SessionRole): { readonly id: PollSessionId; readonly session: PollSession } {
    const { clock, outbox, limits } = this.#deps;
    const id = this.#ids.make();
    const session = new PollSession({
      clock,
      outbox,
      counters: this.counters,
      memory: this.#memory,
      windowBytes: limits.windowBytes,
      holdMs: limits.holdMs,
      expiryMs: limits.expiryMs,
      lingerMs: limits.lingerMs,
      onOver: end => {
        this.#open.delete(id);
        this.counters.ended[end] += 1;
      },
    });
    this.#open.set(id, { role, session });
    this.counters.opened[role] += 1;
    return { id, session };
  }

  #find(id: PollSessionId, refused: (refusal: PollRefused) => void): PollSession | undefined {
    const session = this.#open.get(id)?.session;
    if (session === undefined) refused({ reason: this.faultOf(id) ?? 'session-gone' });
    return session;
  }
}
