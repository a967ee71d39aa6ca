import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import { describeRelayStore } from '../conformance/relay-store.ts';
import { within } from '../support/within.ts';

describeRelayStore('MemoryStore', async () => {
  const store = new MemoryStore(systemClock);
  return {
    store,
    other: store,
    [Symbol.asyncDispose]: async () => Promise.resolve(store.close()),
  };
});

test('close() of a MemoryStore ends the wait for a change', async () => {
  const store = new MemoryStore(systemClock);
  const { position } = await store.snapshot();
  if (position === undefined) throw new Error('No position');
  const waiting = store.changesAfter(position, 60_000);
  store.close();
  expect(await within('the end of the wait', waiting)).toEqual([]);
});
