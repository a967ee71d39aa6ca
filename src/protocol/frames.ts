// RFC 6455 frames as bytes: headers, whole frames, and an incremental parser. What the relay makes of a
// stream of frames is in frame-relay.ts.

/** Opcodes of RFC 6455 section 5.2. From 8 on they are control frames. */
export const OPCODES = {
  continuation: 0,
  text: 1,
  binary: 2,
  close: 8,
  ping: 9,
  pong: 10,
} as const;

export const FIN_BIT = 0x80;
export const RSV_BITS = 0x70;
export const MASK_BIT = 0x80;

/** Longest payload of a ping, pong or Close frame. Source: RFC 6455, section 5.5. */
export const CONTROL_BYTES_MAX = 125;

/** Longest header: two bytes, eight of length, four of mask. */
export const HEADER_BYTES_MAX = 14;

/** Code that stands for a Close frame without a code; never on the wire. */
export const CLOSE_CODE_NONE = 1005;

/** Code that stands for a connection that ended without a Close frame; never on the wire. */
export const CLOSE_CODE_LOST = 1006;

/**
 * The start of a frame.
 *
 *      0               1               2 …
 *     +-+-+-+-+-------+-+-------------+----------------------+----------------+
 *     |F|R|R|R| opcode|M| length 7    | length 16 or 64 when | mask of 4 bytes|
 *     |I|S|S|S|       |A|             | it is 126 or 127     | when M is set  |
 *     |N|V|V|V|       |S|             |                      |                |
 *     +-+-+-+-+-------+K+-------------+----------------------+----------------+
 */
export interface FrameHeader {
  /** FIN, RSV bits and opcode, as they stand on the wire. */
  readonly firstByte: number;
  readonly opcode: number;
  readonly isFinal: boolean;
  /** The mask as a big-endian number, undefined for an unmasked frame. */
  readonly mask: number | undefined;
  /** May exceed 2 ** 53 and is then not exact. */
  readonly payloadBytes: number;
  readonly headerBytes: number;
  /** Whether the shortest form of the length was used and its top bit is clear, as the RFC demands. */
  readonly isLengthValid: boolean;
}

export function isControl(opcode: number): boolean {
  return opcode >= OPCODES.close;
}

/** Codes that may stand in a Close frame. Source: RFC 6455, section 7.4, and IANA's registry. */
export function isCloseCodeOnWire(code: number): boolean {
  if (code >= 3000) return code <= 4999;
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

/** Reads the header at `offset`; undefined while bytes of it are missing. Checks nothing but the length's form. */
export function parseFrameHeader(bytes: Uint8Array, offset = 0): FrameHeader | undefined {
  const firstByte = bytes[offset];
  const secondByte = bytes[offset + 1];
  if (firstByte === undefined || secondByte === undefined) return undefined;
  const shortLength = secondByte & 0x7f;
  const lengthBytes = shortLength === 126 ? 2 : shortLength === 127 ? 8 : 0;
  const isMasked = (secondByte & MASK_BIT) !== 0;
  const headerBytes = 2 + lengthBytes + (isMasked ? 4 : 0);
  if (offset + headerBytes > bytes.length) return undefined;

  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, headerBytes);
  let payloadBytes = shortLength;
  let isLengthValid = true;
  if (lengthBytes === 2) {
    payloadBytes = view.getUint16(2);
    isLengthValid = payloadBytes > 125;
  } else if (lengthBytes === 8) {
    const high = view.getUint32(2);
    payloadBytes = high * 2 ** 32 + view.getUint32(6);
    isLengthValid = payloadBytes > 0xffff && high < 2 ** 31;
  }
  return {
    firstByte,
    opcode: firstByte & 0x0f,
    isFinal: (firstByte & FIN_BIT) !== 0,
    mask: isMasked ? view.getUint32(2 + lengthBytes) : undefined,
    payloadBytes,
    headerBytes,
    isLengthValid,
  };
}

/** The shortest header for a frame of `payloadBytes`, masked when `mask` is given. */
export function encodeFrameHeader(
  firstByte: number,
  payloadBytes: number,
  mask?: number,
): Uint8Array {
  const lengthBytes = payloadBytes <= 125 ? 0 : payloadBytes <= 0xffff ? 2 : 8;
  const header = new Uint8Array(2 + lengthBytes + (mask === undefined ? 0 : 4));
  const view = new DataView(header.buffer);
  const maskBit = mask === undefined ? 0 : MASK_BIT;
  header[0] = firstByte;
  if (lengthBytes === 0) {
    header[1] = maskBit | payloadBytes;
  } else if (lengthBytes === 2) {
    header[1] = maskBit | 126;
    view.setUint16(2, payloadBytes);
  } else {
    header[1] = maskBit | 127;
    view.setUint32(2, Math.floor(payloadBytes / 2 ** 32));
    view.setUint32(6, payloadBytes % 2 ** 32);
  }
  if (mask !== undefined) view.setUint32(2 + lengthBytes, mask);
  return header;
}

/** Applies a mask in place; doing it twice restores the bytes. `phase` is how many payload bytes came before. */
export function applyMask(bytes: Uint8Array, mask: number, phase = 0): void {
  const rotation = (phase & 3) * 8;
  const rotated = rotation === 0 ? mask : (mask << rotation) | (mask >>> (32 - rotation));
  const keys = [rotated >>> 24, (rotated >>> 16) & 255, (rotated >>> 8) & 255, rotated & 255];
  for (let i = 0; i < bytes.length; i += 1) {
    bytes[i] = (bytes[i] ?? 0) ^ (keys[i & 3] ?? 0);
  }
}

/** One frame to be written. */
export interface FrameToEncode {
  readonly opcode: number;
  readonly payload: Uint8Array;
  /** Whether the message ends here; true unless said otherwise. */
  readonly isFinal?: boolean;
  /** Given by clients, left out by servers. */
  readonly mask?: number;
}

/** A whole frame as bytes of its own. */
export function encodeFrame(frame: FrameToEncode): Uint8Array {
  const { opcode, payload, isFinal = true, mask } = frame;
  const header = encodeFrameHeader((isFinal ? FIN_BIT : 0) | opcode, payload.length, mask);
  const bytes = new Uint8Array(header.length + payload.length);
  bytes.set(header);
  bytes.set(payload, header.length);
  if (mask !== undefined) applyMask(bytes.subarray(header.length), mask);
  return bytes;
}

/** The payload of a Close frame; empty when `code` is undefined. The reason is cut to what fits, between characters. */
export function encodeClosePayload(code?: number, reason = ''): Uint8Array {
  if (code === undefined) return new Uint8Array(0);
  const bytes = new Uint8Array(CONTROL_BYTES_MAX);
  bytes[0] = code >>> 8;
  bytes[1] = code & 255;
  const { written } = new TextEncoder().encodeInto(reason, bytes.subarray(2));
  return bytes.subarray(0, 2 + written);
}

/** Code and reason of a Close frame's payload; 1005 when it has none. Never throws. */
export function parseClosePayload(payload: Uint8Array): { code: number; reason: string } {
  const [high, low] = payload;
  if (high === undefined || low === undefined) return { code: CLOSE_CODE_NONE, reason: '' };
  return { code: high * 256 + low, reason: new TextDecoder().decode(payload.subarray(2)) };
}

/** A whole frame as received, unmasked. */
export interface Frame {
  readonly firstByte: number;
  readonly opcode: number;
  readonly isFinal: boolean;
  readonly isMasked: boolean;
  readonly payload: Uint8Array;
}

/**
 * Cuts a stream of bytes into whole frames, masked or not. For tests and load generators: it checks no rule, and
 * keeps a frame until its last byte has come.
 */
export class FrameParser {
  #rest: Uint8Array = new Uint8Array(0);

  /** Bytes of a frame that has not ended yet. */
  get pendingBytes(): number {
    return this.#rest.length;
  }

  /** Takes the next bytes and returns the frames they complete; payloads are copies. */
  push(bytes: Uint8Array): Frame[] {
    const input = this.#rest.length === 0 ? bytes : concatenate(this.#rest, bytes);
    const frames: Frame[] = [];
    let offset = 0;
    for (;;) {
      const header = parseFrameHeader(input, offset);
      if (header === undefined) break;
      const end = offset + header.headerBytes + header.payloadBytes;
      if (end > input.length) break;
      const payload = copyOf(input, offset + header.headerBytes, end);
      if (header.mask !== undefined) applyMask(payload, header.mask);
      frames.push({
        firstByte: header.firstByte,
        opcode: header.opcode,
        isFinal: header.isFinal,
        isMasked: header.mask !== undefined,
        payload,
      });
      offset = end;
    }
    this.#rest = copyOf(input, offset, input.length);
    return frames;
  }
}

/** Not `slice`, which for a Buffer is a view of the same bytes. */
export function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return new Uint8Array(bytes.subarray(start, end));
}

function concatenate(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
