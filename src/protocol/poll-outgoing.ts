import { assert } from '../base/assert.ts';
import { Queue } from '../base/queue.ts';
import {
  CLOSE_CODE_NONE,
  copyOf,
  encodeClosePayload,
  isCloseCodeOnWire,
  OPCODES,
} from './frames.ts';
import type { PayloadMemory } from './payload-memory.ts';
import {
  POLL_BATCH_FRAMES_MAX,
  POLL_FRAME_PAYLOAD_BYTES_MAX,
  pollFrameBytes,
  pollFrameCost,
  type PollBatch,
  type PollFrame,
  type PollOpcode,
} from './poll-frames.ts';

interface KeptFrame extends PollFrame {
  /** What all frames up to and with this one count for. */
  readonly endBytes: number;
}

/**
 * The frames that one end of a long-poll session sends: numbered, kept until the other end has
 * acknowledged them, and held back while it has no room. The same on server and client.
 */
export class OutgoingFrames {
  /** Frames that are not acknowledged; the first has number `#acked + 1`. */
  readonly #kept = new Queue<KeptFrame>();
  readonly #memory: PayloadMemory | undefined;
  #acked = 0;
  /** The highest number that was ever in a batch. */
  #sent = 0;
  #endBytes = 0;
  #ackedBytes = 0;
  #credit = 0;
  #isClosed = false;

  /**
   * With `memory`, where payloads are copied to, frames that were taken are to be looked at only until they are
   * acknowledged.
   */
  constructor(memory?: PayloadMemory) {
    this.#memory = memory;
  }

  /** What the frames that are not acknowledged count for, sent or not. */
  get keptBytes(): number {
    return this.#endBytes - this.#ackedBytes;
  }

  /** Number of the last frame that the other end has. */
  get acked(): number {
    return this.#acked;
  }

  /** What the frames that the other end has room for count for, from the first. */
  get credit(): number {
    return this.#credit;
  }

  /** A Close frame is among the frames, and nothing may follow it. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** All there is, the Close frame too, has reached the other end. */
  get isDelivered(): boolean {
    return this.#isClosed && this.#kept.length === 0;
  }

  /** Adds a fragment, in parts when it is long. `payload` is copied. Nothing after `close`. */
  push(opcode: PollOpcode, isFinal: boolean, payload: Uint8Array): void {
    if (this.#isClosed) return;
    let from = 0;
    let partOpcode = opcode;
    while (payload.length - from > POLL_FRAME_PAYLOAD_BYTES_MAX) {
      const end = from + POLL_FRAME_PAYLOAD_BYTES_MAX;
      this.#keep(partOpcode, false, this.#copy(payload, from, end));
      from = end;
      partOpcode = OPCODES.continuation;
    }
    this.#keep(partOpcode, isFinal, this.#copy(payload, from, payload.length));
  }

  /**
   * Adds a Close frame, the last of all; the code 1005 makes one without a code, others must be codes
   * that may be sent. Safe to call twice.
   */
  close(code: number, reason: string): void {
    if (this.#isClosed) return;
    assert(code === CLOSE_CODE_NONE || isCloseCodeOnWire(code), 'a close code may be sent');
    const payload = encodeClosePayload(code === CLOSE_CODE_NONE ? undefined : code, reason);
    this.#keep(OPCODES.close, true, payload);
    this.#isClosed = true;
  }

  /**
   * The other end has frames up to number `ack`, and room for what counts for `credit` in all. Older news than
   * what is known changes nothing. False: it claims to have what was never sent; nothing is changed.
   */
  acknowledge(ack: number, credit: number): boolean {
    if (ack > this.#sent) return false;
    this.#credit = Math.max(this.#credit, credit);
    if (ack > this.#acked) {
      const count = ack - this.#acked;
      this.#release(count);
      this.#ackedBytes = this.#kept.shift(count)?.endBytes ?? this.#ackedBytes;
      this.#acked = ack;
    }
    return true;
  }

  /** Whether `take` would give a frame. */
  has(from: number): boolean {
    const frame = this.#kept.at(Math.max(from, this.#acked + 1) - this.#acked - 1);
    return frame !== undefined && frame.endBytes <= this.#credit;
  }

  /**
   * The frames from number `from` (or from the first not acknowledged, when that is later) that the
   * other end has room for, as many as a batch may have: at most `bytesMax` bytes of the batch, but
   * at least one when there is one.
   */
  take(from: number, bytesMax: number): Pick<PollBatch, 'seq' | 'frames'> {
    const seq = Math.max(from, this.#acked + 1);
    assert(seq <= this.#acked + this.#kept.length + 1, 'frames are taken without a gap');
    const frames: PollFrame[] = [];
    let bytes = 0;
    for (let index = seq - this.#acked - 1; index < this.#kept.length; index += 1) {
      const frame = this.#kept.at(index);
      if (frame === undefined || frame.endBytes > this.#credit) break;
      if (frames.length === POLL_BATCH_FRAMES_MAX) break;
      bytes += pollFrameBytes(frame);
      if (bytes > bytesMax && frames.length > 0) break;
      frames.push(frame);
    }
    this.#sent = Math.max(this.#sent, seq + frames.length - 1);
    return { seq, frames };
  }

  #copy(payload: Uint8Array, start: number, end: number): Uint8Array {
    return this.#memory?.copy(payload, start, end) ?? copyOf(payload, start, end);
  }

  /** Gives back the memory of the first frames. */
  #release(count: number): void {
    if (this.#memory === undefined) return;
    for (let index = 0; index < count; index += 1) {
      const frame = this.#kept.at(index);
      if (frame !== undefined) this.#memory.release(frame.payload);
    }
  }

  #keep(opcode: PollOpcode, isFinal: boolean, payload: Uint8Array): void {
    const frame = { opcode, isFinal, payload };
    this.#endBytes += pollFrameCost(frame);
    this.#kept.push({ ...frame, endBytes: this.#endBytes });
  }
}
