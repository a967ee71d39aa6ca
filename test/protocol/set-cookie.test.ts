import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splitSetCookie } from '../../src/protocol/set-cookie.ts';

describe('splitSetCookie()', () => {
  test.each([
    ['one cookie', 'a=1; Path=/', ['a=1; Path=/']],
    ['joined by commas alone', 'a=1,b=2', ['a=1', 'b=2']],
    ['joined by commas and spaces', 'a=1; Secure, b=2,\tc=3', ['a=1; Secure', 'b=2', 'c=3']],
    [
      'dates of all three forms',
      'a=1; expires=Wed, 21 Oct 2015 07:28:00 GMT, b=2; Expires=Wednesday, 21-Oct-15 07:28:00 GMT,c=3',
      [
        'a=1; expires=Wed, 21 Oct 2015 07:28:00 GMT',
        'b=2; Expires=Wednesday, 21-Oct-15 07:28:00 GMT',
        'c=3',
      ],
    ],
    ['commas inside a value', 'a=1,2,3; Path=/', ['a=1,2,3; Path=/']],
    ['an equals sign inside a value', 'a=b=c, d=e', ['a=b=c', 'd=e']],
    ['nothing', '', ['']],
  ])('of %s', (_, joined, cookies) => {
    expect(splitSetCookie(joined)).toEqual(cookies);
  });

  test('undoes the joining of any cookies without commas', () => {
    const cookie = fc.stringMatching(/^[\w-]{1,8}=[\w=-]{0,8}(; Path=\/[a-z]{0,5})?$/);
    fc.assert(
      fc.property(fc.array(cookie, { minLength: 1 }), fc.constantFrom(',', ', '), (list, comma) => {
        expect(splitSetCookie(list.join(comma))).toEqual(list);
      }),
    );
  });

  test('takes time in proportion to the length', () => {
    expect(splitSetCookie(`a=1${', '.repeat(30_000)}`)).toHaveLength(1);
    expect(splitSetCookie(`a=1,${' '.repeat(60_000)}x`)).toHaveLength(1);
  });
});
