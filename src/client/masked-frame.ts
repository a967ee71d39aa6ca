import { randomFillSync } from 'node:crypto';
import { encodeFrameHeader, FIN_BIT } from '../protocol/frames.ts';

const MASK_BYTES = 4;
/** Masks drawn at a time: one call of the system's generator costs more than the bytes. */
const masks = new DataView(new ArrayBuffer(MASK_BYTES * 1_024));
let nextMask = masks.byteLength;

/** A frame of a client, as bytes of its own: masked by a mask that nobody can foresee. */
export function encodeMaskedFrame(opcode: number, isFinal: boolean, payload: Uint8Array): Buffer {
  const mask = drawMask();
  const header = encodeFrameHeader((isFinal ? FIN_BIT : 0) | opcode, payload.length, mask);
  // The payload begins at a multiple of four, so that it can be masked four bytes at a time.
  const pad = (4 - (header.length % 4)) % 4;
  const start = pad + header.length;
  const bytes = new Uint8Array(start + Math.ceil(payload.length / 4) * 4);
  bytes.set(header, pad);
  bytes.set(payload, start);
  const words = new Int32Array(bytes.buffer, start);
  const word = nativeWord(mask);
  for (let i = 0; i < words.length; i += 1) words[i] = (words[i] ?? 0) ^ word;
  return Buffer.from(bytes.buffer, pad, header.length + payload.length);
}

function drawMask(): number {
  if (nextMask === masks.byteLength) {
    randomFillSync(masks);
    nextMask = 0;
  }
  const mask = masks.getUint32(nextMask);
  nextMask += MASK_BYTES;
  return mask;
}

const converted = new DataView(new ArrayBuffer(MASK_BYTES));
const native = new Int32Array(converted.buffer);

/** The mask's bytes in their order, as this machine reads four bytes. */
function nativeWord(mask: number): number {
  converted.setUint32(0, mask);
  return native[0] ?? 0;
}
