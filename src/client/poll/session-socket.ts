import type { CancelTimer, Clock } from '../../base/clock.ts';
import { OPCODES } from '../../protocol/frames.ts';
import { BATCH_HEADER_BYTES, parsePollBatch } from '../../protocol/poll-frames.ts';
import type { FrameChannel } from '../frame-channel.ts';
import { SESSION_WINDOW_BYTES, type SessionFrames } from './session-frames.ts';

/** Small enough that what both ends say of themselves comes often, large enough that it costs little. */
const BATCH_BYTES = 131_072;
/** The relay may have stopped for want of an acknowledgement, so it does not wait long for one. */
const ACK_DELAY_MS = 50;
const MESSAGE_BYTES_MAX = BATCH_HEADER_BYTES + SESSION_WINDOW_BYTES;
/** How long the relay may take to answer our Close. */
const CLOSE_TIMEOUT_MS = 5_000;
const NORMAL_CLOSURE = 1000;
const POLICY_VIOLATION = 1008;

/** How it ended for the session: it can go on with polls, or it is over, or it cannot go on. */
export type SocketEnd = 'broken' | 'over' | 'refused';

/** Carries a session's frames over a WebSocket: each binary message, both ways, is a batch. */
export class SessionSocket {
  readonly #channel: FrameChannel;
  readonly #frames: SessionFrames;
  readonly #clock: Clock;
  readonly #onEnd: (end: SocketEnd) => void;
  #parts: Buffer[] = [];
  #partBytes = 0;
  /** Number of the first frame that was not sent here. */
  #next: number;
  #isFull = false;
  #isFlushPlanned = false;
  #cancelAck: CancelTimer | undefined;
  #cancelDestroy: CancelTimer | undefined;
  #end: SocketEnd = 'broken';
  #isOver = false;

  /** `onEnd` is called once, unless it was stopped before. */
  constructor(
    channel: FrameChannel,
    session: { readonly frames: SessionFrames; readonly onEnd: (end: SocketEnd) => void },
    clock: Clock,
  ) {
    this.#channel = channel;
    this.#frames = session.frames;
    this.#onEnd = session.onEnd;
    this.#clock = clock;
    // What polls and posts had under way may be lost with them; twice is as good as once.
    this.#next = session.frames.outgoing.acked + 1;
    channel.receive({
      fragment: (_opcode, fin, payload) => this.#take(payload, fin),
      drained: () => {
        this.#isFull = false;
        this.#flush();
      },
      closed: (code, reason) => {
        this.#end = endOf(code, reason);
        channel.close();
      },
      gone: () => this.#finish(),
    });
    this.wake();
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#isFlushPlanned || this.#isOver) return;
    this.#isFlushPlanned = true;
    // What is sent in the same turn of the event loop travels together.
    setImmediate(() => {
      this.#isFlushPlanned = false;
      this.#flush();
    });
  }

  stop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelAck?.();
    this.#channel.close(NORMAL_CLOSURE);
    this.#cancelDestroy = this.#clock.after(CLOSE_TIMEOUT_MS, () => this.#channel.destroy());
  }

  #take(payload: Buffer, fin: boolean): void {
    if (this.#isOver) return;
    this.#parts.push(payload);
    this.#partBytes += payload.length;
    if (this.#partBytes > MESSAGE_BYTES_MAX) return this.#refuse();
    if (!fin) return;
    const batch = parsePollBatch(Buffer.concat(this.#parts, this.#partBytes));
    this.#parts = [];
    this.#partBytes = 0;
    if (typeof batch === 'string' || !this.#frames.take(batch)) return this.#refuse();
    // The relay ends the session when it knows that its Close has come.
    if (this.#frames.owesCredit || this.#frames.incoming.isClosed) this.wake();
    else if (this.#frames.owesAck) this.#ackLater();
  }

  /** The relay does not keep to the protocol. */
  #refuse(): void {
    this.#end = 'refused';
    this.#channel.destroy();
  }

  #ackLater(): void {
    this.#cancelAck ??= this.#clock.after(ACK_DELAY_MS, () => {
      this.#cancelAck = undefined;
      if (this.#frames.owesAck) this.#send();
    });
  }

  #flush(): void {
    if (this.#isOver) return;
    while (!this.#isFull && this.#frames.outgoing.has(this.#next)) this.#send();
    const owesClosing = this.#frames.incoming.isClosed && this.#frames.owesAck;
    if (this.#frames.owesCredit || owesClosing) this.#send();
  }

  /** One batch, of as many frames as may go now; without any it tells what has come. */
  #send(): void {
    if (this.#isOver) return;
    const { received: ack, credit } = this.#frames.incoming;
    const { bytes, next } = this.#frames.batch(this.#next, BATCH_BYTES);
    this.#next = next;
    this.#frames.told({ ack, credit });
    if (!this.#channel.send(OPCODES.binary, true, bytes)) this.#isFull = true;
  }

  #finish(): void {
    this.#cancelDestroy?.();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelAck?.();
    this.#onEnd(this.#end);
  }
}

/** What the relay says with its Close: LONG-POLL.md, "Over a WebSocket". */
function endOf(code: number, reason: string): SocketEnd {
  if (code === NORMAL_CLOSURE) return 'over';
  const isRefusal = code === POLICY_VIOLATION && !/^session-superseded\b/.test(reason);
  return isRefusal ? 'refused' : 'broken';
}
