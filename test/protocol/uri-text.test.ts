import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  encodeComponent,
  encodeIllegalInPath,
  encodeIllegalInQuery,
  formDecode,
  lowerAscii,
  percentDecode,
} from '../../src/protocol/uri-text.ts';

const text = fc.string({ unit: 'binary' });
const escapes = fc
  .array(fc.oneof(fc.constantFrom('%', '%2', '%41', '%c3%b8', '%ff', '+', '%25'), text))
  .map(parts => parts.join(''));

describe('formDecode()', () => {
  test.each([
    ['a+b%2B%20c', 'a b+ c'],
    ['%2541', '%41'],
    ['100%', '100%'],
    ['%zz%41', '%zzA'],
    ['%ff%41', '\ufffdA'],
    ['', ''],
  ])('of "%s"', (encoded, decoded) => {
    expect(formDecode(encoded)).toBe(decoded);
  });

  test('undoes a form encoding, and never throws', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), plain => {
        expect(formDecode(new URLSearchParams({ '': plain }).toString().slice(1))).toBe(plain);
      }),
    );
    fc.assert(
      fc.property(escapes, encoded => {
        expect(typeof formDecode(encoded)).toBe('string');
      }),
    );
  });
});

test('percentDecode() is strict, and leaves a plus alone', () => {
  expect(percentDecode('a+b%20c%C3%B8')).toBe('a+b cø');
  expect(percentDecode('%zz')).toBeUndefined();
  expect(percentDecode('%ff')).toBeUndefined();
  expect(percentDecode('%ed%a0%80')).toBeUndefined();
});

describe('encodeIllegalInQuery() and encodeIllegalInPath()', () => {
  test('leave nothing but legal characters and whole escapes', () => {
    fc.assert(
      fc.property(escapes, part => {
        expect(encodeIllegalInQuery(part)).toMatch(/^(?:%[0-9a-f]{2}|[!$&-;=?-Z[\]_a-z~])*$/i);
        expect(encodeIllegalInPath(part)).toMatch(/^(?:%[0-9a-f]{2}|[!$&-;=@-Z_a-z~])*$/i);
      }),
    );
  });

  test('change nothing on a second time, and nothing that is legal', () => {
    fc.assert(
      fc.property(escapes, part => {
        const query = encodeIllegalInQuery(part);
        expect(encodeIllegalInQuery(query)).toBe(query);
        const path = encodeIllegalInPath(part);
        expect(encodeIllegalInPath(path)).toBe(path);
      }),
    );
    expect(encodeIllegalInQuery("a=b&c='d'%2f+[x]?/@:!$()*,;~-._")).toBe(
      "a=b&c='d'%2f+[x]?/@:!$()*,;~-._",
    );
  });

  test('have a form for half a surrogate pair', () => {
    expect(encodeIllegalInQuery('a\ud800b')).toBe('a%EF%BF%BDb');
    expect(encodeComponent('a\ud800b')).toBe('a%EF%BF%BDb');
  });
});

test('lowerAscii() folds A to Z and no other letter', () => {
  expect(lowerAscii('HyCo-9')).toBe('hyco-9');
  expect(lowerAscii('\u212aEY\u0130Ø')).toBe('\u212aey\u0130Ø');
});
