import { describe, expect, test } from 'vitest';
import { processCount } from '../../src/config/parsers.ts';

describe('processCount()', () => {
  test.each([
    ['auto', 'auto'],
    ['1', 1],
    ['64', 64],
  ])('takes %s', (text, value) => expect(processCount(64)(text)).toEqual({ value }));

  test.each(['0', '65', 'all', '', '1.5'])('refuses "%s"', text => {
    expect(processCount(64)(text)).toEqual({
      fault: `must be a whole number from 1 to 64 or auto, got "${text}"`,
    });
  });
});
