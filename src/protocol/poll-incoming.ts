import { Queue } from '../base/queue.ts';
import { OPCODES } from './frames.ts';
import { pollFrameCost, type PollBatch, type PollFrame } from './poll-frames.ts';

/** Why a batch was not taken; nothing of it was. */
export type BatchFault = 'sequence-gap' | 'credit-exceeded' | 'frames-malformed';

/**
 * The frames that one end of a long-poll session receives: each once and in order, however often and
 * however late batches come; kept until they are read, as many as the window allows. The same on
 * server and client.
 */
export class IncomingFrames {
  readonly #windowBytes: number;
  readonly #waiting = new Queue<PollFrame>();
  #received = 0;
  #receivedBytes = 0;
  #readBytes = 0;
  #isInMessage = false;
  #isClosed = false;

  /** `windowBytes`: what the frames that wait to be read may count for; at least two of the longest. */
  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** Number of the last frame received; what the other end is told as `ack`. */
  get received(): number {
    return this.#received;
  }

  /** What all frames that the other end may have sent count for; what it is told as `credit`. */
  get credit(): number {
    return this.#readBytes + this.#windowBytes;
  }

  /** What the frames that wait to be read count for. */
  get waitingBytes(): number {
    return this.#receivedBytes - this.#readBytes;
  }

  /** The other end's Close frame was received, though perhaps not yet read. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Takes the frames of a batch that are new; all or, with a fault, none. Payloads are kept, not
   * copied, unless they are a small part of the memory they lie in.
   */
  accept({ seq, frames }: Pick<PollBatch, 'seq' | 'frames'>): BatchFault | undefined {
    if (seq > this.#received + 1) return 'sequence-gap';
    const fresh = frames.slice(this.#received + 1 - seq);
    let bytes = this.#receivedBytes;
    let isInMessage = this.#isInMessage;
    let isClosed = this.#isClosed;
    for (const frame of fresh) {
      const { opcode } = frame;
      const isContinuation = opcode === OPCODES.continuation;
      // A Close frame may come inside a message that its sender did not finish.
      if (isClosed || (opcode !== OPCODES.close && isContinuation !== isInMessage)) {
        return 'frames-malformed';
      }
      if (opcode === OPCODES.close) isClosed = true;
      else isInMessage = !frame.isFinal;
      bytes += pollFrameCost(frame);
    }
    if (bytes > this.credit) return 'credit-exceeded';
    for (const frame of unpinned(fresh)) this.#waiting.push(frame);
    this.#received += fresh.length;
    this.#receivedBytes = bytes;
    this.#isInMessage = isInMessage;
    this.#isClosed = isClosed;
    return undefined;
  }

  /** The next frame, which makes room for others; undefined: none waits. */
  read(): PollFrame | undefined {
    const frame = this.#waiting.shift();
    if (frame !== undefined) this.#readBytes += pollFrameCost(frame);
    return frame;
  }
}

/**
 * The same frames, holding on to at most twice as much memory as their payloads need. Otherwise someone who
 * repeats a long batch with one short frame more each time could have all of it kept for that frame.
 */
function unpinned(frames: readonly PollFrame[]): readonly PollFrame[] {
  let bytes = 0;
  for (const { payload } of frames) bytes += payload.length;
  const memoryBytes = frames[0]?.payload.buffer.byteLength ?? 0;
  if (bytes * 2 >= memoryBytes) return frames;
  const memory = new Uint8Array(bytes);
  let at = 0;
  return frames.map(({ opcode, isFinal, payload }) => {
    memory.set(payload, at);
    at += payload.length;
    return { opcode, isFinal, payload: memory.subarray(at - payload.length, at) };
  });
}
