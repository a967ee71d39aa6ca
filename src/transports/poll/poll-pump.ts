import { OPCODES } from '../../protocol/frames.ts';
import {
  BATCH_HEADER_BYTES,
  encodePollBatch,
  parsePollBatch,
  pollFrameCost,
  type PollBatch,
} from '../../protocol/poll-frames.ts';
import type { PollProgress, PollQuestion, PollSessionId } from '../../protocol/poll-session.ts';
import type { PollDoor, PollRefused } from '../../relay/poll-door.ts';
import { POLL_BATCH_BYTES_MAX } from './poll-sessions.ts';

/** What a pump writes to. */
export interface PumpSink {
  /** False: no more until `drained`. */
  send(batch: Uint8Array): boolean;
  /** The session is over, or goes on elsewhere; called once. */
  refused(refusal: PollRefused): void;
}

export interface PumpOptions {
  readonly id: PollSessionId;
  readonly door: PollDoor;
  readonly question: PollQuestion;
  /** What the frames that may come before they are acknowledged count for. */
  readonly ackBytesMax: number;
  readonly sink: PumpSink;
}

/**
 * Carries a session over a connection that keeps order, by polling and posting in the client's name. It
 * asks for each frame once: should the connection break, the client's next poll says what it got.
 */
export class PollPump {
  readonly #options: PumpOptions;
  readonly #turn: number;
  #ack: number;
  #credit: number;
  /** Number of the next frame to send. */
  #next: number;
  /** What the client was told. */
  #told: PollProgress = { ack: -1, credit: -1 };
  #untoldBytes = 0;
  /** The session's Close frame is that one; infinite until it was sent here. */
  #lastNumber = Number.POSITIVE_INFINITY;
  /** The session has the client's Close frame, from here. */
  #isLastTaken = false;
  #cancelPoll: () => void = () => {};
  #isAsking = false;
  #isStopped = false;
  #isFull = false;

  constructor(options: PumpOptions) {
    const { turn, ack, credit } = options.question;
    this.#options = options;
    this.#turn = turn;
    this.#ack = ack;
    this.#credit = credit;
    this.#next = ack + 1;
  }

  /** The first answer comes at once, so that the client knows how far the session is. */
  start(): void {
    this.#ask(0);
  }

  /** One message of the client. `bytes` are kept. */
  message(bytes: Uint8Array): void {
    if (this.#isStopped) return;
    const batch = parsePollBatch(bytes);
    if (typeof batch === 'string') {
      this.#refuse({ reason: 'poll-malformed', detail: batch });
      return;
    }
    this.#ack = Math.max(this.#ack, batch.ack);
    this.#credit = Math.max(this.#credit, batch.credit);
    let isLast = false;
    for (const frame of batch.frames) {
      this.#untoldBytes += pollFrameCost(frame);
      isLast = frame.opcode === OPCODES.close;
    }
    this.#options.door.post(this.#options.id, batch, answer => {
      if (this.#isStopped) return;
      if ('reason' in answer) {
        this.#refuse(answer);
        return;
      }
      this.#isLastTaken ||= isLast;
      if (isLast || this.#untoldBytes >= this.#options.ackBytesMax) this.#tell(answer);
      if (this.#isLastTaken && this.#ack >= this.#lastNumber) {
        this.#refuse({ reason: 'session-gone' });
      }
    });
  }

  /** What was sent has gone out. */
  drained(): void {
    this.#isFull = false;
    this.#ask();
  }

  /** The connection is gone. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelPoll();
  }

  #ask(waitMs?: number): void {
    // A second poll would take over from the first.
    if (this.#isAsking || this.#isFull || this.#isStopped) return;
    this.#isAsking = true;
    const poll = {
      turn: this.#turn,
      ack: this.#ack,
      credit: this.#credit,
      from: this.#next,
      bytesMax: POLL_BATCH_BYTES_MAX - BATCH_HEADER_BYTES,
      ...(waitMs === undefined ? {} : { waitMs }),
    };
    this.#cancelPoll = this.#options.door.poll(this.#options.id, poll, answer => {
      if (this.#isStopped) return;
      this.#isAsking = false;
      if ('reason' in answer) this.#refuse(answer);
      else this.#answered(answer);
    });
  }

  #answered(batch: PollBatch): void {
    this.#next = Math.max(this.#next, batch.seq + batch.frames.length);
    if (batch.frames.at(-1)?.opcode === OPCODES.close) this.#lastNumber = this.#next - 1;
    const { ack, credit } = this.#told;
    if (batch.frames.length > 0 || batch.ack > ack || batch.credit > credit) this.#send(batch);
    // Not from within the answer, which may have come from within the question.
    queueMicrotask(() => this.#ask());
  }

  /** An acknowledgement of its own, for want of a frame to go with. */
  #tell({ ack, credit }: PollProgress): void {
    this.#send({ seq: this.#next, ack, credit, frames: [] });
  }

  #send(batch: PollBatch): void {
    this.#told = { ack: batch.ack, credit: batch.credit };
    this.#untoldBytes = 0;
    if (!this.#options.sink.send(encodePollBatch(batch))) this.#isFull = true;
  }

  #refuse(refusal: PollRefused): void {
    this.stop();
    this.#options.sink.refused(refusal);
  }
}
