import {
  applyMask,
  CONTROL_BYTES_MAX,
  copyOf,
  encodeFrameHeader,
  FIN_BIT,
  isCloseCodeOnWire,
  isControl,
  OPCODES,
  parseClosePayload,
  parseFrameHeader,
  RSV_BITS,
  type FrameHeader,
} from './frames.ts';

/** Longest data frame that the relay sends; a longer one goes on as fragments. Java clients drop longer ones. */
export const FRAGMENT_BYTES_MAX = 65_536;

export interface FrameLimits {
  /** Largest payload of one frame; 0 means no limit. */
  readonly frameBytesMax: number;
  /** Largest payload of all fragments of one message together; 0 means no limit. */
  readonly messageBytesMax: number;
}

/** A client's frames must be masked; those that another node sends must not. */
export type FrameSource = 'client' | 'node';

/** How one direction of frames ended. */
export type StreamEnd =
  | { readonly type: 'open' }
  | { readonly type: 'closed'; readonly code: number; readonly reason: string }
  | { readonly type: 'violated'; readonly code: 1002 | 1009 };

export interface RelayedStream {
  /** What the other side gets, up to the end. */
  readonly output: Uint8Array;
  readonly end: StreamEnd;
  /** Whether `output` stops between two frames, so that a Close frame may follow it. */
  readonly isOnBoundary: boolean;
  /** Payload bytes of data frames in `output`, and data frames that were begun (as they came, not as they were split). */
  readonly dataBytes: number;
  readonly dataFrames: number;
}

/**
 * What the relay makes of the bytes that a client or another node sent: masks go, data frames longer than FRAGMENT_BYTES_MAX become
 * fragments, a Close frame is passed on whole and ends the direction, a violation ends it with nothing passed on.
 *
 * The model that the native data plane is tested against: its output must be this, however the bytes were cut on
 * their way. Pure and slow; it carries no traffic. Source: RFC 6455 section 5, and what Java's client takes.
 */
export function relayFrames(
  input: Uint8Array,
  limits: FrameLimits,
  source: FrameSource = 'client',
): RelayedStream {
  const output = new ByteSink();
  let offset = 0;
  let isInMessage = false;
  let messageBytes = 0;
  let dataBytes = 0;
  let dataFrames = 0;
  const result = (end: StreamEnd, isOnBoundary = true): RelayedStream => ({
    output: output.bytes(),
    end,
    isOnBoundary,
    dataBytes,
    dataFrames,
  });

  for (;;) {
    const header = parseFrameHeader(input, offset);
    const code = earlyFault(input, offset, isInMessage, source) ?? headerFault(header);
    if (code !== undefined) return result({ type: 'violated', code });
    if (header === undefined) return result({ type: 'open' });

    const { opcode, payloadBytes, mask = 0 } = header;
    if (!isControl(opcode)) {
      messageBytes = (isInMessage ? messageBytes : 0) + payloadBytes;
      if (
        isOver(payloadBytes, limits.frameBytesMax) ||
        isOver(messageBytes, limits.messageBytesMax)
      ) {
        return result({ type: 'violated', code: 1009 });
      }
      isInMessage = !header.isFinal;
    }
    offset += header.headerBytes;
    const payload = copyOf(input, offset, offset + payloadBytes);
    applyMask(payload, mask);
    offset += payload.length;
    const isWhole = payload.length === payloadBytes;

    if (opcode === OPCODES.close) {
      if (!isWhole) return result({ type: 'open' });
      const close = parseClosePayload(payload);
      const isFaulty = payloadBytes === 1 || (payloadBytes > 1 && !isCloseCodeOnWire(close.code));
      if (isFaulty) return result({ type: 'violated', code: 1002 });
      output.add(encodeFrameHeader(header.firstByte, payloadBytes));
      output.add(payload);
      return result({ type: 'closed', ...close });
    }
    if (!isControl(opcode)) {
      dataFrames += 1;
      dataBytes += payload.length;
    }
    addSplit(output, header, payload);
    if (!isWhole) {
      const isBetweenFragments = payload.length > 0 && payload.length % FRAGMENT_BYTES_MAX === 0;
      return result({ type: 'open' }, isBetweenFragments);
    }
  }
}

/** Writes a frame, or as much of it as has come, in parts of at most FRAGMENT_BYTES_MAX. */
function addSplit(output: ByteSink, header: FrameHeader, payload: Uint8Array): void {
  let firstByte = header.firstByte;
  let left = header.payloadBytes;
  let offset = 0;
  do {
    const bytes = Math.min(left, FRAGMENT_BYTES_MAX);
    const isLast = bytes === left;
    output.add(encodeFrameHeader(isLast ? firstByte : firstByte & ~FIN_BIT, bytes));
    output.add(payload.subarray(offset, offset + bytes));
    offset += bytes;
    left -= bytes;
    firstByte = (header.firstByte & FIN_BIT) | OPCODES.continuation;
  } while (left > 0 && offset < payload.length);
}

/** Faults that the first two bytes show, before the rest of the header has come. */
function earlyFault(
  input: Uint8Array,
  offset: number,
  isInMessage: boolean,
  source: FrameSource,
): 1002 | undefined {
  const first = input[offset];
  const second = input[offset + 1];
  if (first === undefined || second === undefined) return undefined;
  const opcode = first & 0x0f;
  const isOpcodeKnown =
    opcode <= OPCODES.binary || (opcode >= OPCODES.close && opcode <= OPCODES.pong);
  const isMasked = (second & 0x80) !== 0;
  if ((first & RSV_BITS) !== 0 || !isOpcodeKnown || isMasked !== (source === 'client')) return 1002;
  if (isControl(opcode)) {
    const isFinal = (first & FIN_BIT) !== 0;
    return isFinal && (second & 0x7f) <= CONTROL_BYTES_MAX ? undefined : 1002;
  }
  return (opcode === OPCODES.continuation) === isInMessage ? undefined : 1002;
}

function headerFault(header: FrameHeader | undefined): 1002 | undefined {
  return header === undefined || header.isLengthValid ? undefined : 1002;
}

function isOver(bytes: number, bytesMax: number): boolean {
  return bytesMax > 0 && bytes > bytesMax;
}

/** Collects pieces, and joins them once. */
class ByteSink {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
  }

  bytes(): Uint8Array {
    const joined = new Uint8Array(this.#length);
    let offset = 0;
    for (const piece of this.#pieces) {
      joined.set(piece, offset);
      offset += piece.length;
    }
    return joined;
  }
}
