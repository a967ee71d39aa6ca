/** What a length that was announced may come to, as a multiple of what has come. */
const TRUST = 16;
/** What a length that was not announced may come to. */
const GROWTH = 2;

/**
 * Gathers a body piece by piece into memory for all of it: putting the pieces together at the end would copy them all
 * once more. Who announces a long body and does not send it gets no more memory than in proportion to what came.
 */
export class BodyBuffer {
  readonly #expectedBytes: number;
  readonly #bytesMax: number;
  #memory: Buffer = Buffer.alloc(0);
  #length = 0;

  /** `expectedBytes`: as announced; infinite when it was not. `bytesMax`: the caller sees to it that no more comes. */
  constructor(expectedBytes: number, bytesMax: number) {
    this.#expectedBytes = expectedBytes;
    this.#bytesMax = bytesMax;
  }

  get length(): number {
    return this.#length;
  }

  /** What has come so far; shares memory with the buffer. */
  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.#length);
  }

  /** Copies it. */
  push(piece: ArrayBuffer): void {
    const length = this.#length + piece.byteLength;
    if (length > this.#memory.length) this.#grow(length);
    this.#memory.set(new Uint8Array(piece), this.#length);
    this.#length = length;
  }

  /** Lets go of the memory. */
  drop(): void {
    this.#memory = Buffer.alloc(0);
    this.#length = 0;
  }

  #grow(bytesMin: number): void {
    const isAnnounced = this.#expectedBytes !== Number.POSITIVE_INFINITY;
    const limit = isAnnounced
      ? Math.min(this.#expectedBytes, bytesMin * TRUST)
      : Math.min(this.#bytesMax, this.#length === 0 ? bytesMin : bytesMin * GROWTH);
    const memory = Buffer.allocUnsafe(Math.max(bytesMin, limit));
    memory.set(this.bytes);
    this.#memory = memory;
  }
}
