import fc from 'fast-check';
import { expect } from 'vitest';
import type { ListenerDirectory } from '../../src/cluster/listener-directory.ts';
import {
  aListener,
  type DirectoriesUnderTest,
  type DirectoryUnderTest,
} from '../support/directories.ts';

const NODES = ['a', 'b', 'c'] as const;
const PLACES = ['orders', 'invoices'] as const;
const LISTENERS_MAX = 4;

const whichNode = fc.constantFrom(0, 1, 2);

/** What may happen to a cluster; waits are in milliseconds. */
export const happening = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant('claim'),
      who: whichNode,
      place: fc.constantFrom(...PLACES),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ what: fc.constant('release'), who: whichNode, nth: fc.nat(20) }),
  },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('cut'), who: whichNode }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('muffle'), who: whichNode }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('mend'), who: whichNode }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('suspect'),
      who: whichNode,
      whom: fc.constantFrom(...NODES),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constantFrom('link', 'unlink'),
      who: whichNode,
      other: fc.constantFrom(...NODES),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('drain'), who: whichNode }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('erase') }) },
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constant('wait'), ms: fc.constantFrom(10, 50, 400, 1_200) }),
  },
);
export type Happening = typeof happening extends fc.Arbitrary<infer Value> ? Value : never;

/**
 * Lets a history happen to three nodes, heals everything, and demands that every memory then has
 * exactly what the nodes hold, as does a node that reads the coordinator afresh.
 */
export async function runHistory(
  start: () => Promise<DirectoriesUnderTest>,
  history: readonly Happening[],
): Promise<void> {
  await using them = await start();
  const nodes: DirectoryUnderTest[] = [];
  for (const node of NODES) nodes.push(await them.open(node));
  const held = NODES.map(() => new Set<string>());
  const open: Promise<unknown>[] = [];

  for (const step of history) {
    const who = 'who' in step ? step.who : 0;
    const it = nodes[who];
    const mine = held[who];
    if (it === undefined || mine === undefined) throw new Error('there are three nodes');
    if ('place' in step) {
      const listener = aListener({ hybridConnection: step.place });
      const claim = it.directory.claim(listener, { listenersMax: LISTENERS_MAX });
      open.push(
        claim.then(({ type }) => {
          if (type === 'claimed') mine.add(listener.key);
        }),
      );
    } else if ('nth' in step) {
      const key = [...mine][step.nth % Math.max(1, mine.size)];
      if (key === undefined) continue;
      mine.delete(key);
      open.push(it.directory.release(key));
    } else if ('whom' in step) {
      open.push(it.directory.suspect(step.whom));
    } else if ('other' in step) {
      const one = NODES[who] ?? step.other;
      if (step.what === 'link') them.link?.(one, step.other);
      else them.unlink?.(one, step.other);
    } else if ('ms' in step) {
      await them.elapse(step.ms);
    } else if (step.what === 'cut') {
      it.cut();
    } else if (step.what === 'muffle') {
      it.muffle();
    } else if (step.what === 'mend') {
      it.mend();
    } else if (step.what === 'drain') {
      open.push(it.directory.setState('draining'));
    } else {
      await them.erase();
    }
    for (const { directory } of nodes) expectEachOnce(directory);
  }

  for (const it of nodes) it.mend();
  let isSettled = false;
  void Promise.all(open).then(() => {
    isSettled = true;
  });
  await them.until('every step has its answer', () => isSettled);
  const expected = NODES.flatMap((node, i) => [...(held[i] ?? [])].map(key => `${node} ${key}`));
  const wanted = expected.toSorted().join('\n');
  try {
    await them.until('all memories are as they should be', () =>
      nodes.every(
        ({ directory }) =>
          directory.degradedReasons().length === 0 && contentOf(directory) === wanted,
      ),
    );
  } catch (error) {
    for (const { directory } of nodes) {
      expect({ rows: contentOf(directory), reasons: directory.degradedReasons() }).toEqual({
        rows: wanted,
        reasons: [],
      });
    }
    throw error;
  }
  for (const { directory } of nodes) {
    const { ownRows, remoteRows } = directory.stats();
    expect(ownRows + remoteRows).toBe(expected.length);
  }
  const fresh = await them.open('fresh');
  // Nodes may still have to notice that the coordinator has forgotten them.
  await them.until('a fresh node knows all', () =>
    nodes.every(({ directory }) => {
      const { node, epoch } = directory.self();
      return fresh.directory.node(node)?.epoch === epoch && contentOf(fresh.directory) === wanted;
    }),
  );
  for (const { directory } of nodes) {
    expect(fresh.directory.node(directory.self().node)).toEqual(directory.self());
  }
}

function expectEachOnce(directory: ListenerDirectory): void {
  const keys = PLACES.flatMap(place => directory.listenersOf('tests', place)).map(row => row.key);
  expect(keys).toHaveLength(new Set(keys).size);
}

function contentOf(directory: ListenerDirectory): string {
  return PLACES.flatMap(place => directory.listenersOf('tests', place))
    .map(({ node, key }) => `${node} ${key}`)
    .toSorted()
    .join('\n');
}
