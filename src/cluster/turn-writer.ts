import type { Socket } from 'node:net';

/** What one turn of the event loop usually writes to one socket; longer pieces go by themselves. */
const BATCH_BYTES = 65_536;
/** Batches kept for use again, by all writers together. */
const SPARE_BATCHES_MAX = 8;
const spareBatches: Buffer[] = [];

/**
 * Gathers what is written to a socket within one turn of the event loop, so that a turn costs one call
 * of the system and not one per message. Copies what it is given. Holds memory only while something
 * waits, so that a thousand idle sockets cost nothing.
 */
export class TurnWriter {
  readonly #socket: Socket;
  readonly #onFlushed: () => void;
  #batch: Buffer | undefined;
  #used = 0;
  #isScheduled = false;
  readonly #onWritten = (): void => this.#onFlushed();
  readonly #onTurnEnd = (): void => {
    this.#isScheduled = false;
    this.flush();
    this.#onFlushed();
  };

  /** `onFlushed`: some of what waited is gone, perhaps all of it; look at `queuedBytes`. */
  constructor(socket: Socket, onFlushed: () => void) {
    this.#socket = socket;
    this.#onFlushed = onFlushed;
  }

  /** Bytes that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#used + this.#socket.writableLength;
  }

  /** Queues the parts, one behind the other with nothing between. */
  write(first: Uint8Array, second?: Uint8Array): void {
    const bytes = first.length + (second?.length ?? 0);
    if (this.#used + bytes > BATCH_BYTES) this.flush();
    if (bytes > BATCH_BYTES) {
      this.#pass(Buffer.concat(second === undefined ? [first] : [first, second], bytes));
    } else {
      const batch = (this.#batch ??= spareBatches.pop() ?? Buffer.allocUnsafeSlow(BATCH_BYTES));
      batch.set(first, this.#used);
      if (second !== undefined) batch.set(second, this.#used + first.length);
      this.#used += bytes;
    }
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#onTurnEnd);
  }

  /** Passes on at once what has been gathered. */
  flush(): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    const used = this.#used;
    this.#batch = undefined;
    this.#used = 0;
    this.#pass(batch.subarray(0, used));
    // Nothing left in the socket means that the kernel has its copy, so the memory is free again.
    const isTaken = this.#socket.writableLength === 0 && !this.#socket.destroyed;
    if (isTaken && spareBatches.length < SPARE_BATCHES_MAX) spareBatches.push(batch);
  }

  #pass(bytes: Buffer): void {
    if (!this.#socket.writable) return;
    this.#socket.write(bytes, this.#onWritten);
  }
}
