import { copyOf } from './frames.ts';
import { POLL_FRAME_PAYLOAD_BYTES_MAX } from './poll-frames.ts';

/** Shorter payloads get memory of their own: a block would be mostly empty. */
const BLOCK_PAYLOAD_BYTES_MIN = POLL_FRAME_PAYLOAD_BYTES_MAX / 4;

/**
 * Memory for the payloads of frames that are kept for a while. Blocks are used again, because megabytes that are
 * allocated anew for each answer make the garbage collector run all the time, over everything there is.
 */
export class PayloadMemory {
  readonly #freeBlocksMax: number;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  /** `freeBytesMax`: what is held ready at most. */
  constructor(freeBytesMax: number) {
    this.#freeBlocksMax = Math.floor(freeBytesMax / POLL_FRAME_PAYLOAD_BYTES_MAX);
  }

  get freeBytes(): number {
    return this.#free.length * POLL_FRAME_PAYLOAD_BYTES_MAX;
  }

  /** A copy of the bytes from `start` to `end`, at most as many as a frame has; good until it is released. */
  copy(bytes: Uint8Array, start: number, end: number): Uint8Array {
    const length = end - start;
    if (length < BLOCK_PAYLOAD_BYTES_MIN) return copyOf(bytes, start, end);
    const block = this.#free.pop() ?? new Uint8Array(POLL_FRAME_PAYLOAD_BYTES_MAX);
    block.set(bytes.subarray(start, end));
    return block.subarray(0, length);
  }

  /** Takes back what `copy` gave, once; nobody may look at it any more. What is not given back is collected. */
  release(payload: Uint8Array): void {
    if (payload.length < BLOCK_PAYLOAD_BYTES_MIN) return;
    if (this.#free.length >= this.#freeBlocksMax) return;
    const { buffer } = payload;
    if (buffer instanceof ArrayBuffer) this.#free.push(new Uint8Array(buffer));
  }
}
