import { describe, expect, test } from 'vitest';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { describeDispatchStore } from '../conformance/dispatch-store.ts';

describeDispatchStore('openMemoryDispatchStore()', async () => {
  const store = openMemoryDispatchStore();
  return Promise.resolve({ store, other: store, [Symbol.asyncDispose]: () => store.close() });
});

describe('openMemoryDispatchStore()', () => {
  test('says that its records end with the process', () => {
    const store = openMemoryDispatchStore();
    expect(store).toMatchObject({ isDurable: false, isShared: false, shown: 'memory' });
    expect(store.durability).toContain('end with this process');
  });
});
