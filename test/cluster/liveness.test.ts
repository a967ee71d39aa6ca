import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ALIVE, atPing, isSilent } from '../../src/cluster/liveness.ts';

const LIMITS = { pingIntervalMs: 1_000, silenceMs: 5_000 };

describe('isSilent()', () => {
  test('at the fifth ping of a second each without a word, and not before', () => {
    let liveness = ALIVE;
    for (let ping = 1; ping <= 5; ping += 1) {
      liveness = atPing(liveness, false);
      expect(isSilent(liveness, LIMITS)).toBe(ping === 5);
    }
  });

  test('never while something came within the last five pings', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean()), heard => {
        let liveness = ALIVE;
        for (const hasHeard of heard) liveness = atPing(liveness, hasHeard);
        const isQuiet = heard.length >= 5 && !heard.slice(-5).includes(true);
        expect(isSilent(liveness, LIMITS)).toBe(isQuiet);
      }),
    );
  });
});
