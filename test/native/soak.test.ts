import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import type { FrameClient } from '../support/frame-client.ts';
import { startNativeRelay, type LegKind, type NativeRelay } from '../support/native-relay.ts';
import { within } from '../support/within.ts';

/** Messages in all; under AddressSanitizer a run of fewer is asked for by this variable. */
const MESSAGES = Number(process.env['HALFWAY_SOAK_MESSAGES'] ?? 200_000);
const PAIRS = 4;
const HEAD_BYTES = 12;
const SEED = 20_250_601;

/** Numbers below 2 ** 32 from a seed, the same in every run (xorshift). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** From 12 bytes to 300 KB: mostly small, every hundredth one of tens or hundreds of kilobytes. */
function messageBytes(random: () => number): number {
  const kind = random() % 100;
  if (kind === 0) return HEAD_BYTES + (random() % 300_000);
  if (kind < 15) return HEAD_BYTES + (random() % 10_000);
  return HEAD_BYTES + (random() % 300);
}

/** Number, length and checksum of the rest; then bytes cut from a random block. */
function message(number: number, length: number, random: () => number, noise: Buffer): Buffer {
  const start = random() % (noise.length - length);
  const bytes = Buffer.from(noise.subarray(start, start + length));
  bytes.writeUInt32LE(number, 0);
  bytes.writeUInt32LE(length, 4);
  bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES)), 8);
  return bytes;
}

/** Sends numbered messages, every tenth in fragments, with pings between and within them, then Close. */
async function sendAll(client: FrameClient, count: number, seed: number): Promise<void> {
  const random = randomFrom(seed);
  const noise = Buffer.from(Uint32Array.from({ length: 100_000 }, random).buffer);
  const batch: Uint8Array[] = [];
  let batchBytes = 0;
  const put = (opcode: number, payload: Uint8Array, isFinal = true): void => {
    const frame = client.frame(opcode, payload, { isFinal, mask: random() });
    batch.push(frame);
    batchBytes += frame.length;
  };
  for (let number = 0; number < count; number += 1) {
    const bytes = message(number, messageBytes(random), random, noise);
    if (number % 10 === 0) {
      const cut = random() % bytes.length;
      put(OPCODES.binary, bytes.subarray(0, cut), false);
      if (number % 20 === 0) put(OPCODES.ping, Buffer.from(`${number}`));
      put(OPCODES.continuation, bytes.subarray(cut));
    } else {
      put(OPCODES.binary, bytes);
    }
    if (batchBytes > random() % 200_000) {
      await client.flush(Buffer.concat(batch.splice(0)));
      batchBytes = 0;
    }
  }
  await client.flush(Buffer.concat(batch));
  client.sendClose(1000);
}

/** Reads messages until Close, and checks each; returns how many messages and pings came. */
async function receiveAll(client: FrameClient): Promise<{ messages: number; pings: number }> {
  let parts: Uint8Array[] = [];
  let messages = 0;
  let pings = 0;
  for (;;) {
    const frame = await client.next('a message', 30_000);
    if (frame === undefined) throw new Error(`The end after ${messages} messages`);
    if (frame.opcode === OPCODES.close) return { messages, pings };
    if (frame.opcode === OPCODES.ping) {
      pings += 1;
      continue;
    }
    if (frame.payload.length > 65_536) throw new Error(`A frame of ${frame.payload.length} bytes`);
    if ((frame.opcode === OPCODES.continuation) !== parts.length > 0) {
      throw new Error(`Opcode ${frame.opcode} after ${parts.length} parts`);
    }
    parts.push(frame.payload);
    if (!frame.isFinal) continue;
    const bytes = Buffer.concat(parts);
    parts = [];
    const isWhole =
      bytes.readUInt32LE(0) === messages &&
      bytes.readUInt32LE(4) === bytes.length &&
      bytes.readUInt32LE(8) === crc32(bytes.subarray(HEAD_BYTES));
    if (!isWhole) throw new Error(`Message ${messages} came out changed`);
    messages += 1;
  }
}

const COURSES: readonly { kinds: readonly [LegKind, LegKind]; messages: number }[] = [
  { kinds: ['websocket', 'websocket'], messages: MESSAGES },
  { kinds: ['websocket', 'raw'], messages: MESSAGES / 5 },
  { kinds: ['raw', 'raw'], messages: MESSAGES / 5 },
];

describe.each(COURSES)('splice() $kinds', ({ kinds, messages }) => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterAll(async () => {
    await relay.cutAll();
    await relay[Symbol.asyncDispose]();
  });

  test(
    `carries ${messages} random messages both ways, none changed, lost or out of order`,
    { timeout: 120_000 },
    async () => {
      const each = messages / PAIRS / 2;
      const runs = Array.from({ length: PAIRS }, async (_, i) => {
        const { a, b, counters, ended } = await relay.pair({ kinds });
        const [atB, atA] = await Promise.all([
          receiveAll(b),
          receiveAll(a),
          sendAll(a, each, SEED + i),
          sendAll(b, each, SEED * 2 + i),
        ]);
        expect(atA).toEqual({ messages: each, pings: each / 20 });
        expect(atB).toEqual({ messages: each, pings: each / 20 });
        await Promise.all([a.nextEnd(), b.nextEnd()]);
        a.fin();
        b.fin();
        const end = await within('the end', ended);
        expect(end.framesFromA).toBe(each + each / 10);
        expect([...counters]).toEqual([
          end.bytesFromA,
          end.bytesFromB,
          end.framesFromA,
          end.framesFromB,
        ]);
      });
      await Promise.all(runs);
    },
  );
});
