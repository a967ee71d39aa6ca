import { expect, test } from 'vitest';
import { ChangeWaits } from '../../src/api/change-waits.ts';
import { openMemoryDispatchStore } from '../../src/store/memory-dispatch-store.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { settled } from '../support/fake-machines.ts';

function bench() {
  const store = openMemoryDispatchStore();
  const clock = new FakeClock();
  let watches = 0;
  const watch = store.watch.bind(store);
  store.watch = (...given) => {
    watches += 1;
    return watch(...given);
  };
  const waits = new ChangeWaits(store, clock);
  let reads = 0;
  const append = (log: string) =>
    store.step('dev', { conditions: [], appends: [{ log, text: '{}', keep: 10 }] });
  const hold = (log: string, waitMs = 10_000, signal = new AbortController().signal) =>
    waits.hold(
      async () => {
        reads += 1;
        return (await store.log('dev', log, { after: 0, limit: 10 })).entries.length;
      },
      count => count > 0,
      { partition: 'dev', topics: [log], waitMs, signal },
    );
  return { waits, clock, append, hold, reads: () => reads, watches: () => watches };
}

test('hold() answers at once when there is enough', async () => {
  const { append, hold, watches, reads } = bench();
  await append('a');
  expect(await hold('a')).toBe(1);
  expect([watches(), reads()]).toEqual([0, 1]);
});

test('hold() without a wait answers at once with what there is', async () => {
  const { hold, watches } = bench();
  expect(await hold('a', 0)).toBe(0);
  expect(watches()).toBe(0);
});

test('hold() answers as soon as there is something, to those that it concerns', async () => {
  const { waits, clock, append, hold, reads, watches } = bench();
  const [first, second, other] = [hold('a'), hold('a'), hold('b')];
  await settled();
  expect(waits.count).toBe(3);
  const before = reads();
  await append('a');
  expect(await Promise.all([first, second])).toEqual([1, 1]);
  // Whoever waits for something else was not woken.
  expect(reads() - before).toBe(2);
  expect([waits.count, watches(), clock.pendingTasks]).toEqual([1, 1, 1]);
  await append('b');
  expect(await other).toBe(1);
  expect([waits.count, clock.pendingTasks]).toEqual([0, 0]);
});

test('hold() gives up when its time is over', async () => {
  const { waits, clock, hold } = bench();
  const held = hold('a', 5_000);
  await settled();
  clock.advance(4_999);
  await settled();
  expect(waits.count).toBe(1);
  clock.advance(1);
  expect(await held).toBe(0);
  expect(waits.count).toBe(0);
});

test('hold() ends with its request', async () => {
  const { waits, clock, hold } = bench();
  const leaving = new AbortController();
  const held = hold('a', 5_000, leaving.signal);
  await settled();
  leaving.abort();
  expect(await held).toBe(0);
  expect([waits.count, clock.pendingTasks]).toEqual([0, 0]);
});

test('a change between the first look and the wait is not missed', async () => {
  const { waits } = bench();
  let looks = 0;
  const value = await waits.hold(
    () => Promise.resolve((looks += 1)),
    seen => seen === 2,
    { partition: 'dev', topics: ['a'], waitMs: 1_000, signal: new AbortController().signal },
  );
  expect(value).toBe(2);
});

test('a read that fails ends the wait with its error', async () => {
  const { waits, clock } = bench();
  let looks = 0;
  const held = waits.hold(
    () => {
      looks += 1;
      return looks === 1 ? Promise.resolve(0) : Promise.reject(new Error('away'));
    },
    () => false,
    { partition: 'dev', topics: ['a'], waitMs: 1_000, signal: new AbortController().signal },
  );
  await expect(held).rejects.toThrow('away');
  expect([waits.count, clock.pendingTasks]).toEqual([0, 0]);
});

test('close() answers all who wait, and nobody waits afterwards', async () => {
  const { waits, hold } = bench();
  const held = [hold('a'), hold('b')];
  await settled();
  waits.close();
  waits.close();
  expect(await Promise.all(held)).toEqual([0, 0]);
  expect(await hold('a')).toBe(0);
  expect(waits.count).toBe(0);
});

test('as many wait as may wait, no more', async () => {
  const { waits, hold } = bench();
  const held = Array.from({ length: 4_000 }, () => hold('a'));
  await settled();
  expect(waits.count).toBe(4_000);
  await expect(hold('a')).rejects.toMatchObject({ code: 'Overloaded' });
  waits.close();
  await Promise.all(held);
});
