import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatMoment, parseMoment } from '../../src/dispatch/moments.ts';

test('parseMoment() reads what Date writes', () => {
  fc.assert(
    fc.property(fc.integer({ min: -62_167_219_200_000, max: 253_402_300_799_999 }), wallMs => {
      expect(parseMoment(new Date(wallMs).toISOString())).toBe(wallMs);
    }),
  );
});

test('formatMoment() writes whole seconds', () => {
  expect(formatMoment(1_700_000_000_999)).toBe('2023-11-14T22:13:20Z');
});

test.each([
  '',
  '2026-01-05',
  '2026-13-05T10:00:00Z',
  '2026-01-05T25:00:00Z',
  '2026-01-05T10:00:00+01:00',
])('parseMoment() gives nothing for %j', text => {
  expect(parseMoment(text)).toBeUndefined();
});
