import {
  encodePollBatch,
  encodePollBatchPieces,
  type PollBatch,
} from '../../protocol/poll-frames.ts';
import { IncomingFrames } from '../../protocol/poll-incoming.ts';
import { OutgoingFrames } from '../../protocol/poll-outgoing.ts';
import type { PollProgress, PollQuestion } from '../../protocol/poll-session.ts';

/** Bytes of frames that may wait here to be read. */
export const SESSION_WINDOW_BYTES = 1_048_576;
/** So much new credit is worth a message of its own. */
const CREDIT_NEWS_BYTES = SESSION_WINDOW_BYTES / 4;

/** More polls than there can be while a WebSocket is opened. */
const TURNS_AHEAD = 100_000;

/** The frames of a long-poll session, both ways, and what each end knows of the other: all but their transport. */
export class SessionFrames {
  readonly outgoing = new OutgoingFrames();
  readonly incoming = new IncomingFrames(SESSION_WINDOW_BYTES);
  readonly #onNews: () => void;
  #turn = 0;
  #toldAck = 0;
  /** The first poll tells it. */
  #toldCredit = SESSION_WINDOW_BYTES;

  /** `credit`: what the relay gave at first. `onNews`: frames or acknowledgements have come. */
  constructor(credit: number, onNews: () => void) {
    this.outgoing.acknowledge(0, credit);
    this.#onNews = onNews;
  }

  /** What the next poll says; it takes over from all before it. */
  nextQuestion(): PollQuestion {
    this.#turn += 1;
    return this.#question(this.#turn);
  }

  /**
   * What a WebSocket says that is to take over, and goes on doing so while polls go on until it is
   * open. `skipTurns` must be called before the next poll that is to take over from it.
   */
  questionAhead(): PollQuestion {
    return this.#question(this.#turn + TURNS_AHEAD);
  }

  /** From here on polls take over from a WebSocket with such a turn. */
  skipTurns(turn: number): void {
    this.#turn = Math.max(this.#turn, turn);
  }

  #question(turn: number): PollQuestion {
    return { turn, ack: this.incoming.received, credit: this.incoming.credit };
  }

  /** The frames from number `from` on that there is credit for, as a batch of at most `bytesMax` bytes of frames. */
  batch(from: number, bytesMax: number): { readonly bytes: Uint8Array; readonly next: number } {
    const batch = this.#take(from, bytesMax);
    return { bytes: encodePollBatch(batch), next: batch.seq + batch.frames.length };
  }

  /** The same batch in pieces, for requests, which need not have it in one. */
  pieces(
    from: number,
    bytesMax: number,
  ): { readonly pieces: readonly Uint8Array[]; readonly isEmpty: boolean } {
    const batch = this.#take(from, bytesMax);
    return { pieces: encodePollBatchPieces(batch), isEmpty: batch.frames.length === 0 };
  }

  #take(from: number, bytesMax: number): PollBatch {
    const { received: ack, credit } = this.incoming;
    return { ack, credit, ...this.outgoing.take(from, bytesMax) };
  }

  /** The relay has seen this of us. */
  told({ ack, credit }: { readonly ack: number; readonly credit: number }): void {
    this.#toldAck = Math.max(this.#toldAck, ack);
    this.#toldCredit = Math.max(this.#toldCredit, credit);
  }

  /** Of all that was said the relay has certainly seen this alone: the rest may have been lost. */
  toldOnly({ ack, credit }: { readonly ack: number; readonly credit: number }): void {
    this.#toldAck = ack;
    this.#toldCredit = credit;
  }

  /** Grows with all that comes from the relay for the first time: frames, acknowledgements, credit. */
  get news(): number {
    return this.incoming.received + this.outgoing.acked + this.outgoing.credit;
  }

  /** Whether the relay may be waiting to be told how much room there is. */
  get owesCredit(): boolean {
    return this.incoming.credit - this.#toldCredit >= CREDIT_NEWS_BYTES;
  }

  /** Whether frames have come that the relay does not know of. */
  get owesAck(): boolean {
    return this.incoming.received > this.#toldAck;
  }

  /** What the relay sent. False: it does not keep to the protocol, and the session cannot go on. */
  take(batch: PollBatch): boolean {
    const isGood =
      this.outgoing.acknowledge(batch.ack, batch.credit) &&
      this.incoming.accept(batch) === undefined;
    if (isGood) this.#onNews();
    return isGood;
  }

  /** What the relay says it has. False: as above. */
  progress({ ack, credit }: PollProgress): boolean {
    const isGood = this.outgoing.acknowledge(ack, credit);
    if (isGood) this.#onNews();
    return isGood;
  }
}
