import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatExpiry, formatTimestamp } from '../../src/protocol/timestamps.ts';

describe('formatTimestamp()', () => {
  test.each([
    [0, '1970-01-01T00:00:00'],
    [951_782_399_999, '2000-02-28T23:59:59'],
    [951_782_400_000, '2000-02-29T00:00:00'],
    [1_893_499_200_000, '2030-01-01T12:00:00'],
    [-1, '1969-12-31T23:59:59'],
    [253_402_300_799_999, '9999-12-31T23:59:59'],
  ])('of %d', (wallMs, text) => {
    expect(formatTimestamp(wallMs)).toBe(text);
  });

  test('agrees with Date over the whole calendar', () => {
    const wallMs = fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 });
    fc.assert(
      fc.property(wallMs, ms => {
        expect(formatTimestamp(ms)).toBe(new Date(ms).toISOString().slice(0, 19));
      }),
      { numRuns: 2_000 },
    );
  });
});

test('formatExpiry() has the form that Azure tells an expiry in', () => {
  expect(formatExpiry(1_893_456_000_000)).toBe('2030-01-01 00:00:00Z');
});
