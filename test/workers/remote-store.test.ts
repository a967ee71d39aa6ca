import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import { StoreError, type RelayStore } from '../../src/store/relay-store.ts';
import { RemoteStore, SharedStore } from '../../src/workers/remote-store.ts';
import { aHybridConnection, describeRelayStore } from '../conformance/relay-store.ts';
import { reportBug } from '../support/directories.ts';
import { testLines, type TestLines } from '../support/lines.ts';
import { within } from '../support/within.ts';

describeRelayStore('RemoteStore', async () => {
  const { first, second, shared } = twoWorkers();
  return {
    store: first.store,
    other: second.store,
    [Symbol.asyncDispose]: async () => {
      for (const { store } of [first, second]) store.close();
      shared.close();
    },
  };
});

test('a change that one worker makes ends the waits of all workers', async () => {
  const { first, second } = twoWorkers();
  const { position } = await first.store.snapshot();
  if (position === undefined) throw new Error('No position');
  const waits = [first, second].map(({ store }) => store.changesAfter(position, 60_000));
  await first.store.put(aHybridConnection('orders'), {
    expectedVersion: 0,
    hybridConnectionsMax: 10,
  });
  for (const changes of await within('the change', Promise.all(waits))) {
    expect(changes).toMatchObject([{ key: { hybridConnection: 'orders' } }]);
  }
});

test('a store whose parent is gone fails with StoreError', async () => {
  const { first } = twoWorkers();
  const { position } = await first.store.snapshot();
  if (position === undefined) throw new Error('No position');
  const waiting = first.store.changesAfter(position, 60_000);
  first.lines.setUp(false);
  await expect(waiting).rejects.toThrow(StoreError);
  await expect(first.store.snapshot()).rejects.toThrow(StoreError);
});

interface Worker {
  readonly store: RelayStore;
  readonly lines: TestLines;
}

function twoWorkers(): {
  readonly first: Worker;
  readonly second: Worker;
  readonly shared: SharedStore;
} {
  const shared = new SharedStore(new MemoryStore(systemClock), systemClock);
  const worker = (): Worker => {
    const lines = testLines();
    shared.serve(lines.parent, reportBug);
    return { lines, store: new RemoteStore(lines.worker, shared.store, systemClock) };
  };
  return { first: worker(), second: worker(), shared };
}
