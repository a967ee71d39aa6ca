import { isControl, OPCODES, parseFrameHeader, type FrameHeader } from '../protocol/frames.ts';
import { CONTROL_BYTES_MAX, HEADER_BYTES_MAX, RSV_BITS } from '../protocol/frames.ts';

/** What a server's stream of frames turns into. */
export interface FrameSink {
  /** A piece of a message, as it arrives: a frame may come in many. `fin` ends the message. */
  readonly data: (opcode: number, fin: boolean, payload: Buffer) => void;
  /** Close, ping or pong, whole. */
  readonly control: (opcode: number, payload: Buffer) => void;
}

const EMPTY = Buffer.alloc(0);

/** Reads the frames of a server piece by piece, so that a message of any size passes through. */
export class FrameReader {
  readonly #sink: FrameSink;
  /** Bytes of a header, or of a control frame, that is not complete yet. */
  #held: Buffer = EMPTY;
  /** The data frame of which a part is still to come. */
  #open: { opcode: number; readonly fin: boolean; remaining: number } | undefined;
  /** Whether a message has begun and its last fragment has not come yet. */
  #isInMessage = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes. Returns what is wrong with them, after which nothing may follow. */
  push(chunk: Buffer): string | undefined {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = EMPTY;
    for (;;) {
      bytes = this.#takePayload(bytes);
      if (bytes.length === 0) return undefined;
      const header = parseFrameHeader(bytes);
      if (header === undefined) {
        this.#held = bytes;
        return bytes.length > HEADER_BYTES_MAX ? 'a header without end' : undefined;
      }
      const fault = faultOf(header, this.#isInMessage);
      if (fault !== undefined) return fault;
      if (isControl(header.opcode)) {
        const end = header.headerBytes + header.payloadBytes;
        if (bytes.length < end) {
          this.#held = bytes;
          return undefined;
        }
        this.#sink.control(header.opcode, bytes.subarray(header.headerBytes, end));
        bytes = bytes.subarray(end);
        continue;
      }
      const { opcode, isFinal: fin, payloadBytes: remaining } = header;
      bytes = bytes.subarray(header.headerBytes);
      this.#isInMessage = !fin;
      if (remaining === 0) this.#sink.data(opcode, fin, EMPTY);
      else this.#open = { opcode, fin, remaining };
    }
  }

  /** Hands on what belongs to the open frame and returns the rest. */
  #takePayload(bytes: Buffer): Buffer {
    const open = this.#open;
    if (open === undefined || bytes.length === 0) return bytes;
    const payload = bytes.subarray(0, open.remaining);
    open.remaining -= payload.length;
    this.#sink.data(open.opcode, open.fin && open.remaining === 0, payload);
    open.opcode = OPCODES.continuation;
    if (open.remaining === 0) this.#open = undefined;
    return bytes.subarray(payload.length);
  }
}

function faultOf(header: FrameHeader, isInMessage: boolean): string | undefined {
  const { opcode } = header;
  if (header.mask !== undefined) return 'a masked frame';
  if (!header.isLengthValid) return 'a malformed length';
  if ((header.firstByte & RSV_BITS) !== 0) return 'a frame of an extension';
  if (!KNOWN_OPCODES.has(opcode)) return 'an unknown kind of frame';
  if (!isControl(opcode)) {
    if (isInMessage === (opcode === OPCODES.continuation)) return undefined;
    return isInMessage ? 'a message within another' : 'a continuation of nothing';
  }
  return header.payloadBytes > CONTROL_BYTES_MAX || !header.isFinal
    ? 'a long control frame'
    : undefined;
}

const KNOWN_OPCODES: ReadonlySet<number> = new Set(Object.values(OPCODES));
