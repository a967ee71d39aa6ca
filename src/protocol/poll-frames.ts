import { FIN_BIT, isCloseCodeOnWire, OPCODES, RSV_BITS } from './frames.ts';

// What long-poll sessions carry: numbered frames, in batches. See LONG-POLL.md beside this file.

export const POLL_VERSION = 1;
/** The version and three bytes that are zero. */
const VERSION_WORD = POLL_VERSION * 2 ** 24;
/** Version, three bytes that are zero, and three numbers of eight bytes. */
export const BATCH_HEADER_BYTES = 28;
/** First byte and length. */
export const POLL_FRAME_HEADER_BYTES = 5;
/**
 * What a frame counts for beyond its payload where credit is counted, because keeping one takes memory
 * however short it is: a window full of empty frames takes less than three times its size. Counted as
 * they travel, they would take thirty times as much.
 */
export const POLL_FRAME_COST_BYTES = 64;
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
  /** How much the frames that the other side may have sent count for in all, from the first. Never shrinks. */
  readonly credit: number;
  readonly frames: readonly PollFrame[];
}

/** Bytes of a frame in a batch. */
export function pollFrameBytes(frame: PollFrame): number {
  return POLL_FRAME_HEADER_BYTES + frame.payload.length;
}

/** What a frame takes of the credit. */
export function pollFrameCost(frame: PollFrame): number {
  return POLL_FRAME_COST_BYTES + frame.payload.length;
}

/** Bytes of the whole batch as it travels. */
export function pollBatchBytes({ frames }: Pick<PollBatch, 'frames'>): number {
  let length = BATCH_HEADER_BYTES;
  for (const frame of frames) length += pollFrameBytes(frame);
  return length;
}

export function encodePollBatch(batch: PollBatch): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pollBatchBytes(batch));
  writePollBatch(batch, bytes);
  return bytes;
}

/** Writes a batch to the start of `bytes`, which is long enough for it; returns how long it is. */
export function writePollBatch(batch: PollBatch, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  writeBatchHeader(view, batch);
  let at = BATCH_HEADER_BYTES;
  for (const frame of batch.frames) {
    writeFrameHeader(view, at, frame);
    bytes.set(frame.payload, at + POLL_FRAME_HEADER_BYTES);
    at += pollFrameBytes(frame);
  }
  return at;
}

/** From this length on a payload is not copied: another piece to write costs less. */
const PIECE_BYTES_MIN = 16_384;

/** The same bytes as `encodePollBatch` gives, in pieces, of which long payloads are some as they are. */
export function encodePollBatchPieces(batch: PollBatch): readonly Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const { frames } = batch;
  let length = BATCH_HEADER_BYTES;
  for (const { payload } of frames) {
    length += POLL_FRAME_HEADER_BYTES + (payload.length < PIECE_BYTES_MIN ? payload.length : 0);
  }
  // All headers and short payloads one behind the other, cut where the long ones go.
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  writeBatchHeader(view, batch);
  let from = 0;
  let at = BATCH_HEADER_BYTES;
  for (const frame of frames) {
    writeFrameHeader(view, at, frame);
    at += POLL_FRAME_HEADER_BYTES;
    const { payload } = frame;
    if (payload.length < PIECE_BYTES_MIN) {
      bytes.set(payload, at);
      at += payload.length;
      continue;
    }
    pieces.push(bytes.subarray(from, at), payload);
    from = at;
  }
  if (from < at) pieces.push(bytes.subarray(from, at));
  return pieces;
}

/** Reads a batch; its payloads are parts of `bytes`. A text instead says what is wrong with it. */
export function parsePollBatch(bytes: Uint8Array): PollBatch | string {
  if (bytes.length < BATCH_HEADER_BYTES) return `a batch has at least ${BATCH_HEADER_BYTES} bytes`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = view.getUint32(0);
  if (start !== VERSION_WORD) return `the first four bytes of a batch are 1, 0, 0, 0`;
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

function writeBatchHeader(view: DataView, { seq, ack, credit }: PollBatch): void {
  // Memory that is used again may hold anything.
  view.setUint32(0, VERSION_WORD);
  writeNumber(view, 4, seq);
  writeNumber(view, 12, ack);
  writeNumber(view, 20, credit);
}

function writeFrameHeader(view: DataView, at: number, { opcode, isFinal, payload }: PollFrame) {
  view.setUint8(at, isFinal ? opcode | FIN_BIT : opcode);
  view.setUint32(at + 1, payload.length);
}

function writeNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

function readNumber(view: DataView, at: number): number | undefined {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}
