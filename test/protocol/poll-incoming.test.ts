import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  encodePollBatch,
  parsePollBatch,
  POLL_FRAME_COST_BYTES,
  type PollFrame,
} from '../../src/protocol/poll-frames.ts';
import { IncomingFrames } from '../../src/protocol/poll-incoming.ts';

describe('IncomingFrames', () => {
  test('takes each frame once, however batches overlap', () => {
    const frames = new IncomingFrames(1_000);
    expect(frames.accept({ seq: 1, frames: texts('a', 'b') })).toBeUndefined();
    expect(frames.accept({ seq: 1, frames: texts('a', 'b') })).toBeUndefined();
    expect(frames.accept({ seq: 2, frames: texts('b', 'c') })).toBeUndefined();
    expect(frames.accept({ seq: 1, frames: texts('a') })).toBeUndefined();
    expect(frames.received).toBe(3);
    expect(readAll(frames)).toEqual(['a', 'b', 'c']);
  });

  test('refuses a gap and takes nothing of it', () => {
    const frames = new IncomingFrames(1_000);
    expect(frames.accept({ seq: 2, frames: texts('b') })).toBe('sequence-gap');
    expect(frames.accept({ seq: 2, frames: [] })).toBe('sequence-gap');
    expect(frames.accept({ seq: Number.MAX_SAFE_INTEGER, frames: texts('z') })).toBe(
      'sequence-gap',
    );
    expect(frames.accept({ seq: 1, frames: [] })).toBeUndefined();
    expect([frames.received, frames.waitingBytes]).toEqual([0, 0]);
  });

  test('takes as much as its credit, exactly, and more only when something was read', () => {
    const costOf5 = POLL_FRAME_COST_BYTES + 5;
    const frames = new IncomingFrames(2 * costOf5);
    expect(frames.credit).toBe(2 * costOf5);
    expect(frames.accept({ seq: 1, frames: texts('12345', '123456') })).toBe('credit-exceeded');
    expect(frames.waitingBytes).toBe(0);
    expect(frames.accept({ seq: 1, frames: texts('12345', '12345') })).toBeUndefined();
    expect(frames.accept({ seq: 3, frames: texts('') })).toBe('credit-exceeded');
    expect(frames.credit).toBe(2 * costOf5);
    frames.read();
    expect(frames.credit).toBe(3 * costOf5);
    expect(frames.accept({ seq: 3, frames: texts('') })).toBeUndefined();
  });

  test.each<[string, readonly PollFrame[]]>([
    ['a continuation without a start', [frame(0, true, 'x')]],
    ['a message inside a message', [frame(1, false, 'a'), frame(2, true, 'b')]],
    ['a frame behind Close', [frame(8, true, ''), frame(1, true, 'a')]],
    ['a second Close', [frame(8, true, ''), frame(8, true, '')]],
  ])('refuses %s whole', (_what, all) => {
    const frames = new IncomingFrames(1_000);
    expect(frames.accept({ seq: 1, frames: all })).toBe('frames-malformed');
    expect(frames.received).toBe(0);
    expect(frames.accept({ seq: 1, frames: texts('good') })).toBeUndefined();
  });

  test('knows across batches where a message stands', () => {
    const frames = new IncomingFrames(1_000);
    frames.accept({ seq: 1, frames: [frame(1, false, 'a')] });
    expect(frames.accept({ seq: 2, frames: [frame(1, true, 'b')] })).toBe('frames-malformed');
    expect(frames.accept({ seq: 2, frames: [frame(0, true, 'b')] })).toBeUndefined();
    expect(frames.accept({ seq: 3, frames: [frame(0, true, 'c')] })).toBe('frames-malformed');
  });

  test('takes a Close frame inside a message, and nothing after it but repetitions', () => {
    const frames = new IncomingFrames(1_000);
    const all = [frame(1, false, 'a'), frame(8, true, '\x03\xe8')];
    expect(frames.accept({ seq: 1, frames: all })).toBeUndefined();
    expect(frames.isClosed).toBe(true);
    expect(frames.accept({ seq: 1, frames: all })).toBeUndefined();
    expect(frames.accept({ seq: 3, frames: [] })).toBeUndefined();
    expect(frames.accept({ seq: 3, frames: [frame(0, true, '')] })).toBe('frames-malformed');
    expect(readAll(frames)).toEqual(['a', '\x03\xe8']);
  });

  test('a short frame does not keep the long batch it came in', () => {
    const frames = new IncomingFrames(10_000_000);
    const long = Array.from({ length: 15 }, () => frame(2, true, 'x'.repeat(65_000)));
    frames.accept({ seq: 1, frames: long });
    for (let count = 0; count < 15; count += 1) frames.read();
    let keptMemory = 0;
    for (let more = 1; more <= 20; more += 1) {
      const short = Array.from({ length: more }, (_none, index) => frame(1, true, `${index + 1}`));
      const batch = parsePollBatch(
        encodePollBatch({ seq: 1, ack: 0, credit: 0, frames: [...long, ...short] }),
      );
      if (typeof batch === 'string') throw new Error(batch);
      expect(frames.accept(batch)).toBeUndefined();
      const kept = frames.read();
      keptMemory += kept?.payload.buffer.byteLength ?? 0;
      expect(Buffer.from(kept?.payload ?? []).toString()).toBe(`${more}`);
    }
    expect(keptMemory).toBeLessThan(20 * 20);
  });

  test('frames without a payload do not keep the batch they came in, though they count', () => {
    const frames = new IncomingFrames(1_000_000);
    const all = Array.from({ length: 1_000 }, () => frame(1, true, ''));
    const batch = parsePollBatch(encodePollBatch({ seq: 1, ack: 0, credit: 0, frames: all }));
    if (typeof batch === 'string') throw new Error(batch);
    expect(frames.accept(batch)).toBeUndefined();
    expect(frames.waitingBytes).toBe(1_000 * POLL_FRAME_COST_BYTES);
    expect(frames.read()?.payload.buffer.byteLength).toBe(0);
  });

  test('lets go of what was read while there is always something to read', async () => {
    const frames = new IncomingFrames(1_000_000);
    let seq = 1;
    const give = (): void => {
      expect(frames.accept({ seq, frames: [frame(2, true, 'x')] })).toBeUndefined();
      seq += 1;
    };
    give();
    const read: WeakRef<PollFrame>[] = [];
    for (let count = 0; count < 100; count += 1) {
      give();
      const one = frames.read();
      if (one !== undefined) read.push(new WeakRef(one));
    }
    expect([read.length, frames.waitingBytes]).toEqual([100, POLL_FRAME_COST_BYTES + 1]);
    // What a WeakRef shows stays until the running task is over.
    await new Promise(resolve => void setImmediate(resolve));
    collectGarbage();
    // The engine may still know the last one, from the loop above.
    expect(read.slice(0, -1).filter(one => one.deref() !== undefined)).toEqual([]);
  });

  test('200,000 small frames are read one by one', () => {
    const frames = new IncomingFrames(200_000 * POLL_FRAME_COST_BYTES);
    const all = Array.from({ length: 200_000 }, () => frame(1, true, ''));
    expect(frames.accept({ seq: 1, frames: all })).toBeUndefined();
    let count = 0;
    while (frames.read() !== undefined) count += 1;
    expect(count).toBe(200_000);
  });
});

function frame(opcode: PollFrame['opcode'], isFinal: boolean, text: string): PollFrame {
  return { opcode, isFinal, payload: Uint8Array.from(Buffer.from(text, 'latin1')) };
}

function texts(...all: readonly string[]): PollFrame[] {
  return all.map(text => frame(1, true, text));
}

function readAll(frames: IncomingFrames): string[] {
  const all: string[] = [];
  for (let one = frames.read(); one !== undefined; one = frames.read()) {
    all.push(Buffer.from(one.payload).toString('latin1'));
  }
  return all;
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}
