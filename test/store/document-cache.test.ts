import { describe, expect, test } from 'vitest';
import { DocumentCache } from '../../src/store/document-cache.ts';
import type { Document } from '../../src/store/dispatch-store.ts';

const P = 'tests';
const MIB = 1024 * 1024;

function documentOf(id: string, text: string, version = 1): Document {
  return { key: { kind: 'run', id }, version, text };
}

describe('DocumentCache', () => {
  test('tells partitions, kinds and ids apart, and has the latest', () => {
    const cache = new DocumentCache(MIB);
    cache.set(P, documentOf('a', 'old'));
    cache.set(P, documentOf('a', 'new', 2));
    cache.set('other', documentOf('a', 'theirs'));
    expect(cache.get(P, { kind: 'run', id: 'a' })).toEqual(documentOf('a', 'new', 2));
    expect(cache.get('other', { kind: 'run', id: 'a' })).toEqual(documentOf('a', 'theirs'));
    expect(cache.get(P, { kind: 'input', id: 'a' })).toBeUndefined();
    cache.delete(P, { kind: 'run', id: 'a' });
    expect(cache.get(P, { kind: 'run', id: 'a' })).toBeUndefined();
    expect(cache.get('other', { kind: 'run', id: 'a' })).toBeDefined();
    cache.clear();
    expect(cache.bytes).toBe(0);
  });

  test('stays below its limit: what was not asked for the longest leaves first', () => {
    const cache = new DocumentCache(MIB);
    const first = { kind: 'run', id: '0' };
    for (let n = 0; n < 1_000; n += 1) {
      cache.set(P, documentOf(`${n}`, 'x'.repeat(1_000)));
      expect(cache.get(P, first)).toBeDefined();
      expect(cache.bytes).toBeLessThanOrEqual(MIB);
    }
    expect(cache.bytes).toBeGreaterThan(MIB / 2);
    expect(cache.get(P, { kind: 'run', id: '1' })).toBeUndefined();
  });

  test('keeps no long text, nor what stood in its place', () => {
    const cache = new DocumentCache(MIB);
    cache.set(P, documentOf('a', 'short'));
    cache.set(P, documentOf('a', 'x'.repeat(64 * 1024 + 1), 2));
    expect(cache.get(P, { kind: 'run', id: 'a' })).toBeUndefined();
    expect(cache.bytes).toBe(0);
  });
});
