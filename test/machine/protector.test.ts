import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { plainProtector, protectorOf, wrappingProtector } from '../../src/machine/protector.ts';
import { someFolder } from '../support/some-folder.ts';

const SECRET = Buffer.from('0123456789abcdef0123456789abcdef');
const KEY = Buffer.alloc(32, 7);

describe('wrappingProtector', () => {
  test('what it writes does not have the secret in it, and opens with the same key', () => {
    const protector = wrappingProtector(KEY);
    const written = protector.protect('a.key', SECRET);
    expect(written.includes(SECRET)).toBe(false);
    expect(written.includes(SECRET.toString('base64url'))).toBe(false);
    expect(protector.reveal('a.key', written)).toEqual(SECRET);
  });

  test('reveal() refuses another key, another file and a changed file', () => {
    const written = wrappingProtector(KEY).protect('a.key', SECRET);
    expect(() => wrappingProtector(Buffer.alloc(32, 8)).reveal('a.key', written)).toThrow(
      /does not open with this wrapping key/,
    );
    expect(() => wrappingProtector(KEY).reveal('b.key', written)).toThrow(/does not open/);
    const changed = Buffer.from(written.toString().replace(/"wrapped":"(.)/, '"wrapped":"_'));
    expect(() => wrappingProtector(KEY).reveal('a.key', changed)).toThrow(/does not open/);
  });

  test('reads what was kept plainly, and says that it is weaker', () => {
    const protector = wrappingProtector(KEY);
    const plain = plainProtector().protect('a.key', SECRET);
    expect(protector.reveal('a.key', plain)).toEqual(SECRET);
    expect(protector.isWeaker(plain)).toBe(true);
    expect(protector.isWeaker(protector.protect('a.key', SECRET))).toBe(false);
  });

  test('a short key is refused with what to do', () => {
    expect(() => wrappingProtector(Buffer.alloc(31))).toThrow(/31 bytes.*openssl rand 32/);
  });
});

test('a plain protector says who has the key of a wrapped file', () => {
  const written = wrappingProtector(KEY).protect('a.key', SECRET);
  expect(() => plainProtector().reveal('a.key', written)).toThrow(/--wrapping-key-file/);
});

test('protectorOf() wraps where there is a credential, and only there', () => {
  using place = someFolder();
  expect(protectorOf({ CREDENTIALS_DIRECTORY: place.path }).name).toBe('plain');
  writeFileSync(join(place.path, 'machine-key'), KEY);
  expect(protectorOf({ CREDENTIALS_DIRECTORY: place.path }).name).toBe('wrapped');
  expect(protectorOf({}, join(place.path, 'machine-key')).name).toBe('wrapped');
  expect(() => protectorOf({}, join(place.path, 'none'))).toThrow(/Cannot read the wrapping key/);
});
