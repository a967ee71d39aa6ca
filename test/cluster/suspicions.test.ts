// When a node that may be dead is judged: directories on a coordinator of this process, in a time of our own.
import { expect, test } from 'vitest';
import {
  aListener,
  memoryDirectories,
  TEST_TIMES,
  type DirectoriesUnderTest,
} from '../support/directories.ts';

const { leaseMs, renewMs, suspicionGraceMs } = TEST_TIMES;
/** Within which all that is due at a moment is done. */
const MOMENT_MS = 20;

/** Two nodes; the first holds a listener that the second knows. */
async function pair(them: DirectoriesUnderTest) {
  const a = await them.open('a');
  const b = await them.open('b');
  await a.directory.claim(aListener(), { listenersMax: 1 });
  await them.elapse(MOMENT_MS);
  expect(b.directory.listenersOf('tests', 'orders')).toHaveLength(1);
  const why = () => b.events.findLast(({ type }) => type === 'node-gone');
  return { a, b, why };
}

test('a cluster that has just started expels a dead node as soon as there was contact for a renewal', async () => {
  await using them = await memoryDirectories();
  const { a, b, why } = await pair(them);
  a.cut();
  expect(await b.directory.suspect('a')).toBe('unknown');
  await them.elapse(renewMs + suspicionGraceMs + MOMENT_MS);
  expect(why()).toMatchObject({ why: 'expelled' });
  expect(b.directory.stats().nodesRemoved).toBe(1);
  expect(await b.directory.claim(aListener(), { listenersMax: 1 })).toMatchObject({
    type: 'claimed',
  });
});

test('a node that dies while the coordinator is away is expelled soon after its return', async () => {
  await using them = await memoryDirectories();
  const { a, b, why } = await pair(them);
  await them.elapse(leaseMs);
  a.cut();
  const end = await them.outage();
  expect(await b.directory.suspect('a')).toBe('unknown');
  await them.elapse(leaseMs);
  expect(b.directory.listenersOf('tests', 'orders')).toHaveLength(1);
  await end();
  await them.elapse(renewMs + suspicionGraceMs + MOMENT_MS);
  expect(why()).toMatchObject({ why: 'expelled' });
  expect(b.directory.listenersOf('tests', 'orders')).toEqual([]);
});

test('a live node that could not be judged stays, whether a link comes up again or not', async () => {
  await using them = await memoryDirectories();
  const { a, b } = await pair(them);
  for (const isLinkedAgain of [true, false]) {
    const end = await them.outage();
    expect(await b.directory.suspect('a')).toBe('unknown');
    await them.elapse(leaseMs);
    await end();
    if (isLinkedAgain) b.directory.announcements.linkUp('a');
    await them.elapse(2 * leaseMs);
    expect(b.directory.node('a')?.epoch).toBe(a.directory.self().epoch);
    expect(a.directory.stats().leasesLost).toBe(0);
  }
});
