import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { encodeMaskedFrame } from '../../src/client/masked-frame.ts';
import { FrameParser, OPCODES } from '../../src/protocol/frames.ts';

test.each([0, 1, 2, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 65_537, 100_003])(
  'encodeMaskedFrame() of %i bytes is read back as they were, and its source is left alone',
  size => {
    // Not at the beginning of its memory, as pieces of other buffers are.
    const payload = Buffer.from(randomBytes(size + 3).buffer, 3, size);
    const before = Buffer.from(payload);
    const bytes = encodeMaskedFrame(OPCODES.binary, false, payload);
    const [frame] = new FrameParser().push(bytes);
    expect(frame).toMatchObject({ opcode: OPCODES.binary, isFinal: false, isMasked: true });
    expect(before.equals(frame?.payload ?? Buffer.alloc(0))).toBe(true);
    expect(before.equals(payload)).toBe(true);
  },
);

test('encodeMaskedFrame() masks each frame differently, over many pools of random bytes', () => {
  const frames = new Set<string>();
  for (let i = 0; i < 5_000; i += 1) {
    frames.add(encodeMaskedFrame(OPCODES.text, true, Buffer.from('same')).toString('hex'));
  }
  expect(frames.size).toBeGreaterThan(4_990);
});
