import type { CancelTimer, Clock } from '../../base/clock.ts';
import { IdleTimer } from '../../base/idle-timer.ts';
import { IncomingFrames } from '../../protocol/poll-incoming.ts';
import {
  POLL_FRAME_PAYLOAD_BYTES_MAX,
  type PollBatch,
  type PollOpcode,
} from '../../protocol/poll-frames.ts';
import type { PayloadMemory } from '../../protocol/payload-memory.ts';
import { OutgoingFrames } from '../../protocol/poll-outgoing.ts';
import type { PollProgress } from '../../protocol/poll-session.ts';
import type { Poll, PollRefused } from '../../relay/poll-door.ts';
import type { Outbox } from '../outbox.ts';
import { CreditNews } from './credit-news.ts';
import type { PollCounters, SessionEnd } from './poll-metrics.ts';

/** What sits behind a session and uses it: a channel, or a listener's control socket. */
export interface SessionOwner {
  /** Frames may wait to be read. */
  arrived(): void;
  /** The client has got frames: fewer are kept. */
  acknowledged(): void;
  /** The client will send nothing that is not here already. Once, and not when it ended as agreed. */
  lost(): void;
}

export interface PollSessionOptions {
  readonly clock: Clock;
  readonly outbox: Outbox;
  readonly counters: PollCounters;
  /** For what is sent; answers are to be written before more is acknowledged. Undefined: memory of its own. */
  readonly memory?: PayloadMemory;
  /** What the frames that may wait here to be read count for. */
  readonly windowBytes: number;
  readonly holdMs: number;
  readonly expiryMs: number;
  /** How long a session that has ended as agreed answers those who have not heard. */
  readonly lingerMs: number;
  /** Once, when its id is worth nothing any more. */
  readonly onOver: (end: SessionEnd) => void;
}

/** How long a poll is held whose client may lack credit that an answer before did not bring. */
const DOUBT_HOLD_MS = 1_000;

interface HeldPoll {
  readonly from: number;
  readonly bytesMax: number;
  readonly answered: (answer: PollBatch | PollRefused) => void;
  readonly cancelTimeout: CancelTimer;
}

/**
 * One client that comes by requests: what it was sent and has not acknowledged, what it sent, and the
 * one poll that it has here.
 *
 *     open ── both Close frames acknowledged ──▶ ended ── linger time, DELETE ──▶ over
 *     open ── no poll for the expiry time, DELETE, destroy ──▶ over
 *
 * An `ended` session still answers, because the client cannot know that its last post was taken. For
 * whoever is behind it the channel may be gone long before: what it sent last is delivered all the same.
 */
export class PollSession {
  readonly outgoing: OutgoingFrames;
  readonly incoming: IncomingFrames;
  readonly #options: PollSessionOptions;
  readonly #creditNews: CreditNews;
  #phase: 'open' | 'ended' | 'over' = 'open';
  #owner: SessionOwner | undefined;
  #held: HeldPoll | undefined;
  #turn = 0;
  /** The highest number of a frame that was ever in an answer. */
  #sent = 0;
  /** The highest number of a frame that there is. */
  #made = 0;
  #isFlushPlanned = false;
  #idle: IdleTimer;
  #cancelLinger: CancelTimer = () => {};

  constructor(options: PollSessionOptions) {
    this.#options = options;
    this.outgoing = new OutgoingFrames(options.memory);
    this.incoming = new IncomingFrames(options.windowBytes);
    this.#creditNews = new CreditNews(options.windowBytes / 2, options.windowBytes);
    this.#idle = this.#watch();
  }

  /** Says who uses it; before the first request. */
  ownedBy(owner: SessionOwner): void {
    this.#owner = owner;
  }

  get progress(): PollProgress {
    return { ack: this.incoming.received, credit: this.incoming.credit };
  }

  /** Whether a poll waits here for something to answer. */
  get isPolled(): boolean {
    return this.#held !== undefined;
  }

  /** Frames that the client has not acknowledged. */
  get keptFrames(): number {
    return this.#made - this.outgoing.acked;
  }

  /** What the frames in memory count for, of both directions. */
  get queuedBytes(): number {
    return this.outgoing.keptBytes + this.incoming.waitingBytes;
  }

  /** Sends a fragment; nothing behind a Close. `payload` is copied. */
  send(opcode: Exclude<PollOpcode, 8>, isFinal: boolean, payload: Uint8Array): void {
    if (this.#phase === 'over' || this.outgoing.isClosed) return;
    this.#made += Math.max(1, Math.ceil(payload.length / POLL_FRAME_PAYLOAD_BYTES_MAX));
    this.outgoing.push(opcode, isFinal, payload);
    this.#planFlush();
  }

  /** Sends a Close frame. Safe to call twice. */
  close(code: number, reason: string): void {
    if (this.#phase === 'over' || this.outgoing.isClosed) return;
    this.#made += 1;
    this.outgoing.close(code, reason);
    this.#planFlush();
  }

  /** Its owner has read frames: there may be credit to tell of. */
  hasRead(): void {
    this.#planFlush();
  }

  /** Ends it without a Close; its owner is not told. Safe to call twice. */
  destroy(): void {
    this.#over('destroyed');
  }

  /** As of `PollDoor`. */
  poll(poll: Poll, answered: HeldPoll['answered']): () => void {
    const { turn, ack, credit, bytesMax } = poll;
    const from = poll.from ?? ack + 1;
    const fault =
      this.#phase === 'over'
        ? 'session-gone'
        : turn < this.#turn
          ? 'session-superseded'
          : Math.max(ack, from - 1) > this.#sent
            ? 'ack-unknown'
            : undefined;
    if (fault !== undefined) {
      answered({ reason: fault });
      return () => {};
    }
    this.#options.counters.polls += 1;
    this.#turn = turn;
    this.#refuseHeld('session-superseded');
    this.#idle.touch();
    const wasOpen = this.#phase === 'open';
    this.#acknowledge(ack, credit);
    const waitMs = wasOpen && this.#phase !== 'open' ? 0 : poll.waitMs;
    return this.#hold(from, bytesMax, waitMs, answered);
  }

  /** As of `PollDoor`. */
  post(batch: PollBatch, answered: (answer: PollProgress | PollRefused) => void): void {
    if (this.#phase === 'over') {
      answered({ reason: 'session-gone' });
      return;
    }
    const fault = batch.ack > this.#sent ? 'ack-unknown' : this.incoming.accept(batch);
    if (fault !== undefined) {
      answered({ reason: fault, progress: this.progress });
      return;
    }
    this.#options.counters.posts += 1;
    this.#acknowledge(batch.ack, batch.credit);
    this.#owner?.arrived();
    this.#lookForEnd();
    const { progress } = this;
    this.#creditNews.toldSurely(progress.credit);
    answered(progress);
  }

  /** The client wants it no more: as if its connection had broken, unless it had ended. */
  end(): void {
    this.#lose(this.#phase === 'ended' ? 'closed' : 'deleted');
  }

  /** The relay stops. */
  stop(): void {
    this.#over('stopped');
  }

  #hold(
    from: number,
    bytesMax: number,
    waitMs: number | undefined,
    answered: HeldPoll['answered'],
  ): () => void {
    // What its acknowledgement set going may have ended it, or asked again.
    if (this.#isOver()) {
      answered({ reason: 'session-gone' });
      return () => {};
    }
    const { holdMs, windowBytes } = this.#options;
    const receivedBytes = this.incoming.credit - windowBytes + this.incoming.waitingBytes;
    const delayMs = Math.min(
      waitMs ?? holdMs,
      holdMs,
      this.#creditNews.isInDoubt(receivedBytes) ? DOUBT_HOLD_MS : holdMs,
    );
    const held: HeldPoll = {
      from,
      bytesMax,
      answered,
      cancelTimeout:
        delayMs === 0 ? () => {} : this.#options.clock.after(delayMs, () => this.#answer(held)),
    };
    this.#held = held;
    // Frames of this turn of the loop go together.
    if (delayMs === 0 || (!this.#isFlushPlanned && this.#hasNews(held))) this.#answer(held);
    return () => {
      if (this.#held !== held) return;
      held.cancelTimeout();
      this.#held = undefined;
      this.#idle.touch();
    };
  }

  #isOver(): boolean {
    return this.#phase === 'over';
  }

  #hasNews({ from }: HeldPoll): boolean {
    return this.outgoing.has(from) || this.#creditNews.isNews(this.incoming.credit);
  }

  #planFlush(): void {
    if (this.#held === undefined || this.#isFlushPlanned) return;
    this.#isFlushPlanned = true;
    this.#options.outbox.put(() => {
      this.#isFlushPlanned = false;
      if (this.#held !== undefined && this.#hasNews(this.#held)) this.#answer(this.#held);
    });
  }

  #answer(held: HeldPoll): void {
    if (this.#held !== held) return;
    held.cancelTimeout();
    this.#held = undefined;
    this.#idle.touch();
    const { seq, frames } = this.outgoing.take(held.from, held.bytesMax);
    const { counters } = this.#options;
    for (const [index, frame] of frames.entries()) {
      if (seq + index > this.#sent) break;
      counters.replayedFrames += 1;
      counters.replayedBytes += frame.payload.length;
    }
    this.#sent = Math.max(this.#sent, seq + frames.length - 1);
    const { ack, credit } = this.progress;
    this.#creditNews.told(credit);
    held.answered({ seq, ack, credit, frames });
  }

  #refuseHeld(reason: PollRefused['reason']): void {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    held.cancelTimeout();
    held.answered({ reason });
  }

  #acknowledge(ack: number, credit: number): void {
    this.outgoing.acknowledge(ack, credit);
    this.#owner?.acknowledged();
    this.#lookForEnd();
    this.#planFlush();
  }

  #lookForEnd(): void {
    if (this.#phase !== 'open' || !this.outgoing.isDelivered || !this.incoming.isClosed) return;
    this.#phase = 'ended';
    const { clock, lingerMs } = this.#options;
    this.#cancelLinger = clock.after(lingerMs, () => this.#over('closed'));
    // There is nothing more to wait for.
    if (this.#held !== undefined) this.#answer(this.#held);
  }

  #watch(): IdleTimer {
    const { clock, expiryMs } = this.#options;
    return new IdleTimer(clock, expiryMs, () => {
      // While a poll is held somebody is there, however long it takes.
      if (this.#held !== undefined) this.#idle = this.#watch();
      else this.#lose(this.#phase === 'ended' ? 'closed' : 'expired');
    });
  }

  #lose(end: SessionEnd): void {
    const wasOpen = this.#phase === 'open';
    this.#over(end);
    if (wasOpen) this.#owner?.lost();
  }

  #over(end: SessionEnd): void {
    if (this.#phase === 'over') return;
    this.#phase = 'over';
    this.#idle.stop();
    this.#cancelLinger();
    this.#refuseHeld('session-gone');
    this.#options.onOver(end);
  }
}
