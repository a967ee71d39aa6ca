import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  advance,
  canReceive,
  canSend,
  type ChannelEvent,
  type ChannelPhase,
} from '../../src/cluster/channel-state.ts';

describe('advance()', () => {
  test('a Close ends its own direction only', () => {
    expect(canSend(advance('open', 'sent'))).toBe(false);
    expect(canReceive(advance('open', 'sent'))).toBe(true);
    expect(canSend(advance('open', 'received'))).toBe(true);
    expect(canReceive(advance('open', 'received'))).toBe(false);
  });

  test('both directions are over once both Closes passed, in whatever order', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom<ChannelEvent>('sent', 'received')), history => {
        let phase: ChannelPhase = 'open';
        for (const event of history) phase = advance(phase, event);
        expect(canSend(phase)).toBe(!history.includes('sent'));
        expect(canReceive(phase)).toBe(!history.includes('received'));
        expect(phase === 'closing').toBe(history.includes('sent') && history.includes('received'));
      }),
    );
  });

  test('gone is final', () => {
    for (const event of ['sent', 'received', 'gone'] as const) {
      expect(advance('gone', event)).toBe('gone');
    }
  });
});
