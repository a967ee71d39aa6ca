import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  digestWith,
  DIGEST_MODULUS,
  formatRecord,
  formatRow,
  parseRecord,
  parseRow,
} from '../../src/cluster/records.ts';
import {
  formatFeedKeys,
  formatFeedRows,
  parseFeed,
  parseOwner,
  parseRenewal,
  parseRowsPage,
  parseState,
} from '../../src/cluster/redis-formats.ts';

const EPOCH = `${'0'.repeat(32)}.1`;
const answer = fc.anything({ maxDepth: 4 });

/** An entry's fields, as XREAD answers them. */
const fields = (type: string, data: string) => [
  'type',
  type,
  'node',
  'a',
  'epoch',
  'e',
  'data',
  data,
];

describe('what Redis answers', () => {
  test('is read without throwing, whatever it is', () => {
    fc.assert(
      fc.property(answer, fc.string(), (any, text) => {
        for (const parse of [parseRenewal, parseState, parseRowsPage, parseFeed]) parse(any);
        parseFeed([['feed', [['1-1', ['type', 'rows', 'data', text]]]]]);
        parseOwner(text);
        parseRow('k', text);
        parseRecord('a', EPOCH, text);
      }),
    );
  });

  test('is a change for each entry, unknown ones included', () => {
    const rows = [{ key: 'k', part: 5, text: '["n"]' }];
    const entries = [
      ['9-1', [...fields('rows', formatFeedRows(rows)), 'digest', '12']],
      ['9-2', fields('released', formatFeedKeys(['k']))],
      ['9-3', fields('node', '7 {"x":1}')],
      ['9-4', fields('node-gone', 'left')],
      ['9-5', fields('challenge', '')],
      ['9-6', fields('node-gone', 'eaten')],
      ['9-7', fields('of-a-later-version', '')],
    ];
    const holder = { node: 'a', epoch: 'e' };
    const read = parseFeed([['feed', entries]]);
    expect(read.map(({ position }) => position.seq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(read[0]).toMatchObject({ position: { incarnation: '9' }, digest: 12 });
    expect(read.map(({ change }) => change)).toEqual([
      { ...holder, type: 'rows', rows },
      { ...holder, type: 'released', keys: ['k'] },
      { ...holder, type: 'node', record: { part: 7, text: '{"x":1}' } },
      { ...holder, type: 'node-gone', why: 'left' },
      { ...holder, type: 'challenge' },
      { ...holder, type: 'unknown' },
      { ...holder, type: 'unknown' },
    ]);
  });
});

describe('records', () => {
  test('formatRow() then parseRow() gives the claim', () => {
    const text = fc.string({ maxLength: 50 });
    const claim = fc.record({
      key: fc.stringMatching(/^[!-~]{1,128}$/),
      namespace: text,
      hybridConnection: text,
      listenerId: text,
      origin: text,
    });
    fc.assert(
      fc.property(claim, it => {
        expect(parseRow(it.key, formatRow(it).text)).toEqual(it);
      }),
    );
  });

  test('formatRecord() then parseRecord() gives the record, with fields of a later version too', () => {
    const record = { meshAddress: 'a:1', versions: { min: 1, max: 2 }, state: 'draining' } as const;
    const { text } = formatRecord(record);
    expect(parseRecord('a', EPOCH, text)).toEqual({ node: 'a', epoch: EPOCH, ...record });
    const later = text.replace('{', '{"later":1,');
    expect(parseRecord('a', EPOCH, later)).toEqual({ node: 'a', epoch: EPOCH, ...record });
    expect(parseRecord('a b', EPOCH, text)).toBeUndefined();
    expect(parseRecord('a', 'e', text)).toBeUndefined();
  });

  test('digestWith() takes out what it put in, and stays below the modulus', () => {
    const part = fc.integer({ min: 0, max: DIGEST_MODULUS - 1 });
    fc.assert(
      fc.property(part, part, (digest, added) => {
        const more = digestWith(digest, added, 0);
        expect(more).toBeGreaterThanOrEqual(0);
        expect(more).toBeLessThan(DIGEST_MODULUS);
        expect(digestWith(more, 0, added)).toBe(digest);
      }),
    );
  });
});
