import {
  CONTROL_BYTES_MAX,
  FIN_BIT,
  HEADER_BYTES_MAX,
  isControl,
  OPCODES,
  parseFrameHeader,
  RSV_BITS,
  type FrameHeader,
} from './frames.ts';

/** Takes what a FragmentReader finds. */
export interface FragmentSink {
  /**
   * A part of a message, as it came: a frame that arrives in pieces is handed on in pieces, the first
   * with the frame's opcode, the others as continuations. `payload` is part of the bytes read.
   */
  fragment(opcode: number, isFinal: boolean, payload: Uint8Array): void;
  /** A whole ping, pong or Close frame. */
  control(opcode: number, payload: Uint8Array): void;
}

/**
 * Cuts a stream of unmasked frames into fragments, however the bytes were cut on their way. Holds no
 * payload but that of a control frame.
 */
export class FragmentReader {
  readonly #sink: FragmentSink;
  /** The start of a header, or the payload of a control frame, that has not come whole. */
  readonly #held = new Uint8Array(CONTROL_BYTES_MAX);
  #heldBytes = 0;
  #frame: FrameHeader | undefined;
  #payloadLeft = 0;
  /** Opcode of the next fragment of this frame. */
  #opcode = 0;
  #isInMessage = false;
  #isStopped = false;
  #fault: string | undefined;

  constructor(sink: FragmentSink) {
    this.#sink = sink;
  }

  /** What is wrong with the stream; nothing is read after it. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** From inside the sink: `read` returns after this one. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Reads on at `offset` and returns how far it came: to the end, unless it was stopped or found a fault. */
  read(bytes: Uint8Array, offset: number): number {
    this.#isStopped = false;
    let at = offset;
    while (at < bytes.length && !this.#isStopped && this.#fault === undefined) {
      if (this.#frame === undefined) at = this.#readHeader(bytes, at);
      else if (isControl(this.#frame.opcode)) at = this.#readControl(this.#frame, bytes, at);
      else at = this.#readData(this.#frame, bytes, at);
    }
    return at;
  }

  #readHeader(bytes: Uint8Array, at: number): number {
    if (this.#heldBytes === 0) {
      const header = parseFrameHeader(bytes, at);
      if (header !== undefined) {
        this.#begin(header);
        return at + header.headerBytes;
      }
    }
    // Rare: a header that came in pieces, put together byte by byte.
    let next = at;
    while (next < bytes.length && this.#heldBytes < HEADER_BYTES_MAX) {
      this.#held[this.#heldBytes] = bytes[next] ?? 0;
      this.#heldBytes += 1;
      next += 1;
      const header = parseFrameHeader(this.#held.subarray(0, this.#heldBytes));
      if (header === undefined) continue;
      this.#heldBytes = 0;
      this.#begin(header);
      break;
    }
    return next;
  }

  #begin(header: FrameHeader): void {
    this.#fault = faultOf(header, this.#isInMessage);
    if (this.#fault !== undefined) return;
    this.#frame = header;
    this.#payloadLeft = header.payloadBytes;
    if (isControl(header.opcode)) {
      if (this.#payloadLeft === 0) this.#endControl(header, 0);
      return;
    }
    this.#opcode = header.opcode;
    this.#isInMessage = !header.isFinal;
    if (this.#payloadLeft > 0) return;
    this.#frame = undefined;
    this.#sink.fragment(header.opcode, header.isFinal, NOTHING);
  }

  #readControl(frame: FrameHeader, bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#payloadLeft, bytes.length - at);
    this.#held.set(bytes.subarray(at, at + taken), this.#heldBytes);
    this.#heldBytes += taken;
    this.#payloadLeft -= taken;
    if (this.#payloadLeft === 0) this.#endControl(frame, this.#heldBytes);
    return at + taken;
  }

  #endControl(frame: FrameHeader, payloadBytes: number): void {
    this.#frame = undefined;
    this.#heldBytes = 0;
    this.#sink.control(frame.opcode, this.#held.slice(0, payloadBytes));
  }

  #readData(frame: FrameHeader, bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#payloadLeft, bytes.length - at);
    this.#payloadLeft -= taken;
    const isLast = this.#payloadLeft === 0;
    const opcode = this.#opcode;
    this.#opcode = OPCODES.continuation;
    if (isLast) this.#frame = undefined;
    this.#sink.fragment(opcode, isLast && frame.isFinal, bytes.subarray(at, at + taken));
    return at + taken;
  }
}

const NOTHING = new Uint8Array(0);

/** What RFC 6455 section 5 forbids; undefined when the header is good. */
function faultOf(header: FrameHeader, isInMessage: boolean): string | undefined {
  const { opcode, firstByte } = header;
  if (header.mask !== undefined) return 'a frame is masked';
  if ((firstByte & RSV_BITS) !== 0) return 'a reserved bit is set';
  if (!header.isLengthValid) return 'a length is not in its shortest form';
  if (isControl(opcode)) {
    if (opcode > OPCODES.pong) return 'an opcode is unknown';
    const isWhole = (firstByte & FIN_BIT) !== 0 && header.payloadBytes <= CONTROL_BYTES_MAX;
    return isWhole ? undefined : 'a control frame is fragmented or too long';
  }
  if (opcode > OPCODES.binary) return 'an opcode is unknown';
  const isContinuation = opcode === OPCODES.continuation;
  return isContinuation === isInMessage
    ? undefined
    : 'a message begins within another, or goes on without one';
}
