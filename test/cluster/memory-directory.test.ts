import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryCoordinator } from '../../src/cluster/memory-coordinator.ts';
import { openMemoryDirectory } from '../../src/cluster/memory-directory.ts';
import { happening, runHistory } from '../conformance/directory-histories.ts';
import { describeListenerDirectory } from '../conformance/listener-directory.ts';
import { aListener, memoryDirectories, reportBug, TEST_TIMES } from '../support/directories.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { within } from '../support/within.ts';

describeListenerDirectory('MemoryDirectory', memoryDirectories);

test('after any history all memories are what the nodes hold', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(happening, { maxLength: 60 }),
      fc.constantFrom(3, 1_000),
      async (history, feedChangesMax) => {
        await runHistory(() => memoryDirectories({ feedChangesMax }), history);
      },
    ),
    { numRuns: 60 },
  );
});

test('join() ends as soon as it has caught up with what happened while it read the whole', async () => {
  const coordinator = new MemoryCoordinator(new FakeClock());
  const open = (node: string) =>
    openMemoryDirectory(coordinator, {
      node,
      meshAddress: `${node}.example:7000`,
      versions: { min: 1, max: 1 },
      times: TEST_TIMES,
      reportBug,
    });
  const [a, b] = [open('a'), open('b')];
  await a.directory.join();
  const state = b.link.state.bind(b.link);
  const read = b.link.read.bind(b.link);
  let reads = 0;
  b.link.state = async () => {
    const before = await state();
    reads += 1;
    if (reads === 1) await a.directory.claim(aListener(), { listenersMax: 25 });
    return before;
  };
  // The feed comes when its first beat is over, as it mostly does from Redis.
  b.link.read = async (...args) => {
    await new Promise(resolve => void setImmediate(resolve));
    return read(...args);
  };
  // No time passes: it would wait for ever.
  await within('join', b.directory.join());
  expect(b.directory.listenersOf('tests', 'orders')).toHaveLength(1);
  expect(b.directory.degradedReasons()).toEqual([]);
  await b.directory.leave();
  await a.directory.leave();
});

test('a node reads an emptied coordinator as soon as it may, also when it read the whole a moment before', async () => {
  await using them = await memoryDirectories();
  const [a, b] = [await them.open('a'), await them.open('b')];
  const end = await them.outage();
  await a.directory.claim(aListener(), { listenersMax: 25 });
  await them.erase();
  await end();
  // Twice in a renewal it may; the next beat would come a whole renewal from now.
  await them.elapse(TEST_TIMES.renewMs / 2 + 20);
  for (const { directory } of [a, b]) {
    expect(directory.degradedReasons()).toEqual([]);
    expect(directory.listenersOf('tests', 'orders')).toHaveLength(1);
    expect(directory.stats().reconciliations).toMatchObject({ joined: 1, gap: 1 });
  }
});
