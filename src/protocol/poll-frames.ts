import { FIN_BIT, isCloseCodeOnWire, OPCODES, RSV_BITS } from './frames.ts';

// What long-poll sessions carry: numbered frames, in batches. See LONG-POLL.md beside this file.

export const POLL_VERSION = 1;
/** Version, three bytes that are zero, and three numbers of eight bytes. */
export const BATCH_HEADER_BYTES = 28;
/** First byte and length. A frame counts as this and its payload wherever bytes of frames are counted. */
export const POLL_FRAME_HEADER_BYTES = 5;
export const POLL_FRAME_PAYLOAD_BYTES_MAX = 65_536;
/** So that reading a batch never takes long: a mebibyte of empty frames would hold up everyone for a tenth of a second. */
export const POLL_BATCH_FRAMES_MAX = 8_192;
/** Longest payload of a Close frame, as in RFC 6455 section 5.5. */
const CLOSE_PAYLOAD_BYTES_MAX = 125;

export type PollOpcode = 0 | 1 | 2 | 8;

/** One fragment of a message, or a Close frame: the meaning of RFC 6455, without masks, pings and pongs. */
export interface PollFrame {
  readonly opcode: PollOpcode;
  readonly isFinal: boolean;
  readonly payload: Uint8Array;
}

/** What one request, answer or message carries: what its writer has received so far, and frames of its own. */
export interface PollBatch {
  /** Number of the first frame in here; without frames, of the one that will come next. From 1. */
  readonly seq: number;
  /** Number of the last frame received without a gap; 0: none. */
  readonly ack: number;
  /** Bytes of frames, counted from the first, that the other side may have sent in all. Never shrinks. */
  readonly credit: number;
  readonly frames: readonly PollFrame[];
}

export function pollFrameBytes(frame: PollFrame): number {
  return POLL_FRAME_HEADER_BYTES + frame.payload.length;
}

export function encodePollBatch(batch: PollBatch): Uint8Array<ArrayBuffer> {
  let length = BATCH_HEADER_BYTES;
  for (const frame of batch.frames) length += pollFrameBytes(frame);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, POLL_VERSION);
  writeNumber(view, 4, batch.seq);
  writeNumber(view, 12, batch.ack);
  writeNumber(view, 20, batch.credit);
  let at = BATCH_HEADER_BYTES;
  for (const { opcode, isFinal, payload } of batch.frames) {
    view.setUint8(at, isFinal ? opcode | FIN_BIT : opcode);
    view.setUint32(at + 1, payload.length);
    bytes.set(payload, at + POLL_FRAME_HEADER_BYTES);
    at += POLL_FRAME_HEADER_BYTES + payload.length;
  }
  return bytes;
}

/** Reads a batch; its payloads are parts of `bytes`. A text instead says what is wrong with it. */
export function parsePollBatch(bytes: Uint8Array): PollBatch | string {
  if (bytes.length < BATCH_HEADER_BYTES) return `a batch has at least ${BATCH_HEADER_BYTES} bytes`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = view.getUint32(0);
  if (start !== POLL_VERSION * 2 ** 24) return `the first four bytes of a batch are 1, 0, 0, 0`;
  const seq = readNumber(view, 4);
  const ack = readNumber(view, 12);
  const credit = readNumber(view, 20);
  if (seq === undefined || ack === undefined || credit === undefined) {
    return 'seq, ack and credit are below 2^53';
  }
  if (seq === 0) return 'frames are numbered from 1';
  const frames: PollFrame[] = [];
  let at = BATCH_HEADER_BYTES;
  while (at < bytes.length) {
    if (frames.length === POLL_BATCH_FRAMES_MAX) {
      return `a batch carries at most ${POLL_BATCH_FRAMES_MAX} frames`;
    }
    if (at + POLL_FRAME_HEADER_BYTES > bytes.length) return 'the batch ends inside a frame';
    const firstByte = view.getUint8(at);
    const length = view.getUint32(at + 1);
    const opcode = firstByte & 0x0f;
    const isFinal = (firstByte & FIN_BIT) !== 0;
    if ((firstByte & RSV_BITS) !== 0 || !isPollOpcode(opcode)) return 'a frame has an unknown type';
    if (length > POLL_FRAME_PAYLOAD_BYTES_MAX) {
      return `a frame carries at most ${POLL_FRAME_PAYLOAD_BYTES_MAX} bytes`;
    }
    at += POLL_FRAME_HEADER_BYTES;
    if (at + length > bytes.length) return 'the batch ends inside a frame';
    if (opcode === OPCODES.close && !(isFinal && isClosePayload(view, at, length))) {
      return 'a Close frame is malformed';
    }
    frames.push({ opcode, isFinal, payload: bytes.subarray(at, at + length) });
    at += length;
  }
  return { seq, ack, credit, frames };
}

/** What RFC 6455 lets a Close frame carry; a relay that passed on anything else would break its other side. */
function isClosePayload(view: DataView, at: number, length: number): boolean {
  if (length < 2) return length === 0;
  return length <= CLOSE_PAYLOAD_BYTES_MAX && isCloseCodeOnWire(view.getUint16(at));
}

function isPollOpcode(opcode: number): opcode is PollOpcode {
  return opcode <= OPCODES.binary || opcode === OPCODES.close;
}

function writeNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

function readNumber(view: DataView, at: number): number | undefined {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}
