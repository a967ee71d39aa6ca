import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  candidateKeys,
  entityKey,
  formatRequestTarget,
  isEntityName,
  parseRequestPath,
} from '../../src/protocol/request-path.ts';
import paths from '../fixtures/request-paths.json' with { type: 'json' };

const REFUSE = { encodedSlashes: 'refuse' } as const;
const PASS = { encodedSlashes: 'pass' } as const;

const pathText = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '/',
        '/',
        '$hc',
        '%2e',
        '.',
        '..',
        '%2f',
        '%5C',
        '%',
        '%00',
        '%c3%b8',
        'Hyco',
        '?',
      ),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
  )
  .map(parts => `/${parts.join('')}`);

describe('parseRequestPath()', () => {
  test.each(paths.wellFormed)('takes $name apart', ({ url, path }) => {
    expect(parseRequestPath(url, REFUSE)).toEqual(path);
    expect(parseRequestPath(url, PASS)).toEqual(path);
  });

  test.each(paths.wellFormedOnlyWithEncodedSlashes)(
    'takes $name apart only where encoded slashes may pass',
    ({ url, path }) => {
      expect(parseRequestPath(url, REFUSE)).toBeUndefined();
      expect(parseRequestPath(url, PASS)).toEqual(path);
    },
  );

  test.each(paths.malformed)('calls $name malformed', ({ url }) => {
    expect(parseRequestPath(url, REFUSE)).toBeUndefined();
    expect(parseRequestPath(url, PASS)).toBeUndefined();
  });

  test('calls a path of more than 8,192 characters malformed, whatever the query', () => {
    expect(parseRequestPath(`/${'a'.repeat(8_191)}?${'q'.repeat(9_000)}`, REFUSE)).toBeDefined();
    expect(parseRequestPath(`/${'a'.repeat(8_192)}`, REFUSE)).toBeUndefined();
  });

  test('never throws, and never lets dots, separators or control characters through', () => {
    fc.assert(
      fc.property(pathText, fc.constantFrom(REFUSE, PASS), (url, options) => {
        const path = parseRequestPath(url, options);
        for (const segment of path?.segments ?? []) {
          expect(segment).not.toMatch(/^$|^\.\.?$|\/|\p{Cc}/u);
          if (options === REFUSE) expect(segment).not.toContain('\\');
        }
        expect(path?.rawPath.startsWith('/') ?? false).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });

  test('gives segments that survive another encoding', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 }), { minLength: 1 }), names => {
        const path = parseRequestPath(`/x/${names.map(encodeURIComponent).join('/')}`, REFUSE);
        if (path === undefined) return;
        const again = parseRequestPath(
          `/${path.segments.map(encodeURIComponent).join('/')}`,
          REFUSE,
        );
        expect(again?.segments).toEqual(path.segments);
      }),
    );
  });
});

describe('names of hybrid connections', () => {
  test.each([
    'a',
    'hyco',
    'Hyco-1_x.y',
    'microsoft.hybridcompute/machines/0a1b/1/v2',
    'a'.repeat(260),
  ])('isEntityName() allows %s', name => {
    expect(isEntityName(name)).toBe(true);
  });

  const notNames = [
    '',
    '/',
    '/a',
    'a/',
    '-a',
    'a-',
    '.',
    'a b',
    'a%20b',
    '$hc',
    'ø',
    'a\\b',
    'a//b',
  ];
  test.each([...notNames, 'a/../b', 'a/./b', 'a\n', 'a'.repeat(261)])(
    'isEntityName() refuses %j',
    name => {
      expect(isEntityName(name)).toBe(false);
    },
  );

  test('entityKey() folds case and drops slashes around', () => {
    expect(entityKey('/Hyco/A/')).toBe('hyco/a');
    expect(entityKey('hyco')).toBe('hyco');
  });

  test('every name is found by its own path', () => {
    const name = fc
      .array(fc.stringMatching(/^[0-9A-Za-z]([0-9A-Za-z._-]{0,8}[0-9A-Za-z])?$/), { minLength: 1 })
      .map(segments => segments.join('/'));
    fc.assert(
      fc.property(name, fc.array(fc.constantFrom('a', 'b%20c')), (entity, below) => {
        if (!isEntityName(entity)) return;
        const path = parseRequestPath(`/${[entity, ...below].join('/')}`, REFUSE);
        expect(candidateKeys(path?.segments ?? [])).toContain(entityKey(entity));
      }),
    );
  });
});

describe('candidateKeys()', () => {
  test('gives prefixes on segment boundaries, longest first', () => {
    expect(candidateKeys(['a', 'b', 'c'])).toEqual(['a/b/c', 'a/b', 'a']);
    expect(candidateKeys([])).toEqual([]);
  });

  test('leaves out what is too long to be a name', () => {
    expect(candidateKeys(['a', 'b'.repeat(258), 'c'])).toEqual([`a/${'b'.repeat(258)}`, 'a']);
    expect(candidateKeys(Array.from({ length: 4_000 }, () => 'a'))).toHaveLength(130);
  });
});

describe('formatRequestTarget()', () => {
  test.each([
    ['a plain path', 'hyco/rest', 'a=1', '/hyco/rest?a=1'],
    ['no query', 'hyco', '', '/hyco'],
    ['the root', '', '', '/'],
    ['a query of separators', 'hyco', '&&', '/hyco?&&'],
    ['escaped spaces', 'hyco/extra%20Path', '', '/hyco/extra Path'],
    ['escaped letters beyond ASCII', 'hyco/%C3%B8', '', '/hyco/ø'],
    ['escapes that carry meaning', 'h/%2f%3F%23%25%5c', '', '/h/%2f%3F%23%25%5c'],
    ['escapes encoded twice', 'h/%252e%252E%2541', '', '/h/%252e%252E%2541'],
    ['control characters', 'h/%00%0d%0A%7F%C2%85', '', '/h/%00%0d%0A%7F%C2%85'],
    ['bytes that are not UTF-8', 'h/%ff%20', '', '/h/%ff%20'],
    ['an escaped query', 'hyco', 'a=%20%2B+&b=%C3%B8', '/hyco?a=%20%2B+&b=%C3%B8'],
  ])('with %s', (_, rawPath, userQuery, target) => {
    expect(formatRequestTarget(rawPath, userQuery)).toBe(target);
  });

  test('keeps every path that was let in on its own side of the query', () => {
    fc.assert(
      fc.property(pathText, url => {
        const path = parseRequestPath(url, PASS);
        if (path === undefined) return;
        const target = formatRequestTarget(path.rawPath, '');
        expect(target).not.toMatch(/[?#\\]|^\/\/|\p{Cc}/u);
      }),
      { numRuns: 1_000 },
    );
  });
});
