import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REASON_PHRASE_CHARS_MAX, statusLineText } from '../../src/protocol/status-line.ts';

describe('statusLineText()', () => {
  test.each([
    ['Rejected by user code', 'Rejected by user code'],
    [' a \r\n b ', 'a   b'],
    ['a\r\nSet-Cookie: b=1', 'a Set-Cookie: b=1'],
    ['\u0085\u0000', ''],
    ['a\u2028b🙂', 'a?b?'],
  ])('of %j', (text, line) => {
    expect(statusLineText(text)).toBe(line);
  });

  test('is printable ASCII of bounded length, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', size: 'large' }), text => {
        const line = statusLineText(text);
        expect(line).toMatch(/^[ -~]*$/);
        expect(line.length).toBeLessThanOrEqual(REASON_PHRASE_CHARS_MAX);
      }),
    );
    expect(statusLineText('a'.repeat(5_000))).toHaveLength(REASON_PHRASE_CHARS_MAX);
  });
});
