// What nodes tell each other past the coordinator: real directories, on a coordinator and links of this process.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ANNOUNCED_CHARS_PER_MESSAGE_MAX,
  ANNOUNCED_PER_MESSAGE_MAX,
  ANNOUNCED_ROWS_MAX,
} from '../../src/cluster/limits.ts';
import type { ListenerDirectory } from '../../src/cluster/listener-directory.ts';
import { formatRow } from '../../src/cluster/records.ts';
import { MESH_MESSAGE_BYTES_MAX, encodeMeshFrame } from '../../src/protocol/mesh-frames.ts';
import { meshMessage } from '../../src/protocol/mesh-messages.ts';
import { happening, runHistory } from '../conformance/directory-histories.ts';
import {
  aListener,
  memoryDirectories,
  TEST_TIMES,
  type DirectoriesUnderTest,
  type DirectoryUnderTest,
} from '../support/directories.ts';
import { MemoryMesh } from '../support/memory-mesh.ts';

const MANY = { listenersMax: 100_000 };

function keysOf(directory: ListenerDirectory): readonly string[] {
  return directory
    .listenersOf('tests', 'orders')
    .map(({ key }) => key)
    .toSorted();
}

/** Nodes of these names that have contact for long, each linked with all. */
async function linked(...names: readonly string[]): Promise<
  AsyncDisposable & {
    readonly them: DirectoriesUnderTest;
    readonly mesh: MemoryMesh;
    readonly nodes: readonly DirectoryUnderTest[];
  }
> {
  const mesh = new MemoryMesh();
  const them = await memoryDirectories({ mesh });
  const nodes: DirectoryUnderTest[] = [];
  for (const name of names) nodes.push(await them.open(name));
  await them.elapse(TEST_TIMES.leaseMs);
  return { them, mesh, nodes, [Symbol.asyncDispose]: () => them[Symbol.asyncDispose]() };
}

async function pair() {
  const cluster = await linked('a', 'b');
  const [a, b] = cluster.nodes;
  if (a === undefined || b === undefined) throw new Error('two nodes');
  return { ...cluster, a, b };
}

function isWhole({ directory }: DirectoryUnderTest): boolean {
  return directory.degradedReasons().length === 0;
}

/** Lets messages arrive, and hardly any time pass. */
const MOMENT_MS = 10;

describe('while the coordinator is away', () => {
  test('a listener that comes in is known to linked nodes at once, and no longer when it goes', async () => {
    await using it = await pair();
    const { a, b, them } = it;
    await them.outage();
    const listener = aListener();
    await a.directory.claim(listener, MANY);
    await them.elapse(MOMENT_MS);
    const { epoch } = a.directory.self();
    expect(b.directory.listenersOf('tests', 'orders')).toEqual([{ ...listener, node: 'a', epoch }]);
    expect(b.directory.stats()).toMatchObject({ remoteRows: 1, announcedRows: 1 });
    await a.directory.release(listener.key);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([]);
    expect(b.directory.stats()).toMatchObject({ remoteRows: 0, announcedRows: 0 });
    expect(b.events.map(({ type }) => type).slice(-2)).toEqual([
      'listener-added',
      'listener-removed',
    ]);
  });

  test('a listener known from before is known no longer when it goes, also after the return', async () => {
    await using it = await pair();
    const { a, b, them } = it;
    const [stays, goes] = [aListener(), aListener()];
    for (const one of [stays, goes]) await a.directory.claim(one, MANY);
    await them.until('b knows both', () => keysOf(b.directory).length === 2);
    const end = await them.outage();
    await a.directory.release(goes.key);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([stays.key]);
    expect(b.directory.stats().remoteRows).toBe(1);
    await end();
    await them.until('both are whole', () => isWhole(a) && isWhole(b));
    await them.elapse(2 * TEST_TIMES.announcementSettleMs);
    expect(keysOf(b.directory)).toEqual([stays.key]);
    expect(b.directory.stats().remoteRows).toBe(1);
    expect(b.events.filter(({ type }) => type === 'listener-removed')).toHaveLength(1);
    expect(a.directory.stats().leasesLost).toBe(0);
  });

  test('a link that comes up brings all that others missed; one that breaks takes what was announced', async () => {
    await using it = await pair();
    const { a, b, mesh, them } = it;
    const [known, gone, late] = [aListener(), aListener(), aListener()];
    for (const one of [known, gone]) await a.directory.claim(one, MANY);
    await them.until('b knows both', () => keysOf(b.directory).length === 2);
    await them.outage();
    mesh.cut('a', 'b');
    await a.directory.claim(late, MANY);
    await a.directory.release(gone.key);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([known.key, gone.key].toSorted());
    mesh.link('a', 'b');
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([known.key, late.key].toSorted());
    mesh.cut('a', 'b');
    expect(keysOf(b.directory)).toEqual([known.key]);
    expect(b.events.at(-1)).toMatchObject({ type: 'listener-removed', why: 'node-gone' });
    mesh.link('a', 'b');
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([known.key, late.key].toSorted());
  });

  test('what was written right before it, and not read by all, is announced when it is noticed', async () => {
    await using it = await pair();
    const { a, b, them } = it;
    b.cut();
    const listener = aListener();
    await a.directory.claim(listener, MANY);
    a.cut();
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([listener.key]);
  });

  test('what is announced counts towards the quota', async () => {
    await using it = await pair();
    const { a, b, them } = it;
    const before = aListener();
    await a.directory.claim(before, { listenersMax: 3 });
    await them.until('b knows it', () => keysOf(b.directory).length === 1);
    await them.outage();
    await a.directory.claim(aListener(), { listenersMax: 3 });
    await them.elapse(MOMENT_MS);
    const last = { type: 'claimed', provisional: true };
    expect(await b.directory.claim(aListener(), { listenersMax: 3 })).toEqual(last);
    await them.elapse(MOMENT_MS);
    for (const { directory } of [a, b]) {
      expect(await directory.claim(aListener(), { listenersMax: 3 })).toEqual({
        type: 'quota-reached',
      });
    }
    await a.directory.release(before.key);
    await them.elapse(MOMENT_MS);
    expect(await b.directory.claim(aListener(), { listenersMax: 3 })).toEqual(last);
  });

  test('a full link gets the rest when it has room, as things are by then', async () => {
    await using it = await pair();
    const { a, b, mesh, them } = it;
    await them.outage();
    mesh.fill('a', 'b', true);
    const listeners = Array.from({ length: 1_200 }, () => aListener());
    await Promise.all(listeners.map(async one => a.directory.claim(one, MANY)));
    const [gone] = listeners;
    await a.directory.release(gone?.key ?? '');
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([]);
    const before = mesh.sent.length;
    mesh.fill('a', 'b', false);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual(keysOf(a.directory));
    expect(keysOf(b.directory)).toHaveLength(1_199);
    expect(mesh.sent.length - before).toBe(Math.ceil(1_200 / ANNOUNCED_PER_MESSAGE_MAX));
  });

  test('no announcement is longer than a message may be', async () => {
    await using it = await pair();
    const { a, b, mesh, them } = it;
    await them.outage();
    mesh.fill('a', 'b', true);
    // As long in bytes as texts of their length can be.
    const origin = `wss://${'\u{20ac}'.repeat(3_900)}`;
    for (let i = 0; i < 30; i += 1) await a.directory.claim(aListener({ origin }), MANY);
    mesh.fill('a', 'b', false);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toHaveLength(30);
    for (const { announcement } of mesh.sent) {
      const frame = encodeMeshFrame(meshMessage('listeners', { ...announcement }), 'says', 0);
      expect(frame?.length).toBeLessThanOrEqual(MESH_MESSAGE_BYTES_MAX);
    }
    expect(30 * origin.length).toBeGreaterThan(2 * ANNOUNCED_CHARS_PER_MESSAGE_MAX);
  });
});

describe('for one node only', () => {
  test('its listeners are known to the others for as long as it lasts, and counted by them', async () => {
    await using it = await linked('a', 'b', 'c');
    const { mesh, nodes, them } = it;
    const [a, b, c] = nodes;
    if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
    a.cut();
    const late = aListener();
    await a.directory.claim(late, MANY);
    await them.until('its lease has run out', () => b.directory.node('a') === undefined);
    expect(b.directory.announcements.isAway('a')).toBe(true);
    await them.elapse(3 * TEST_TIMES.announcementSettleMs);
    for (const { directory } of [b, c]) expect(keysOf(directory)).toEqual([late.key]);
    expect(await b.directory.claim(aListener(), { listenersMax: 1 })).toEqual({
      type: 'quota-reached',
    });
    a.mend();
    await them.until('all is well', () => nodes.every(isWhole));
    await them.until(
      'it is known from the coordinator',
      () => b.directory.stats().announcedRows === 0,
    );
    await them.elapse(3 * TEST_TIMES.announcementSettleMs);
    for (const { directory } of nodes) expect(keysOf(directory)).toEqual([late.key]);
    expect(b.events.filter(({ type }) => type.startsWith('listener-'))).toHaveLength(1);
    expect(mesh.sent.some(({ announcement }) => announcement.isAway)).toBe(true);
  });

  test('it hears of listeners of others', async () => {
    await using it = await pair();
    const { a, b, them } = it;
    b.cut();
    await them.elapse(MOMENT_MS);
    const [comes, goes] = [aListener(), aListener()];
    expect(await a.directory.claim(comes, MANY)).toEqual({ type: 'claimed', provisional: false });
    await a.directory.claim(goes, MANY);
    await a.directory.release(goes.key);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([comes.key]);
    b.mend();
    await them.until('b is whole', () => isWhole(b) && b.directory.stats().announcedRows === 0);
    await them.elapse(3 * TEST_TIMES.announcementSettleMs);
    expect(keysOf(b.directory)).toEqual([comes.key]);
    expect(b.directory.stats().remoteRows).toBe(1);
  });
});

describe('when the coordinator returns', () => {
  test.each(['whole', 'empty'] as const)(
    '%s: each listener is known once, without a gap, and the coordinator has it',
    async how => {
      await using it = await pair();
      const { a, b, them } = it;
      const [before, late] = [aListener(), aListener()];
      await a.directory.claim(before, MANY);
      await them.until('b knows it', () => keysOf(b.directory).length === 1);
      const end = await them.outage();
      await a.directory.claim(late, MANY);
      await them.elapse(2 * TEST_TIMES.leaseMs);
      if (how === 'empty') await them.erase();
      const counts = new Set<number>();
      const look = (): void => {
        counts.add(
          b.directory.listenersOf('tests', 'orders').filter(row => row.key === late.key).length,
        );
      };
      b.directory.observe(look);
      await end();
      await them.until('both are whole', () => {
        look();
        return isWhole(a) && isWhole(b) && b.directory.stats().announcedRows === 0;
      });
      await them.elapse(3 * TEST_TIMES.announcementSettleMs);
      expect([...counts]).toEqual([1]);
      const wanted = [before.key, late.key].toSorted();
      expect(keysOf(b.directory)).toEqual(wanted);
      expect(b.directory.stats()).toMatchObject({ remoteRows: 2, announcedRows: 0 });
      const fresh = await them.open('fresh');
      expect(keysOf(fresh.directory)).toEqual(wanted);
    },
  );

  test('what is announced and not written, for it went meanwhile, counts no longer', async () => {
    await using it = await pair();
    const { a, b, mesh, them } = it;
    const end = await them.outage();
    const listener = aListener();
    await a.directory.claim(listener, MANY);
    await them.elapse(MOMENT_MS);
    mesh.fill('a', 'b', true);
    await a.directory.release(listener.key);
    await end();
    await them.until('both are whole', () => isWhole(a) && isWhole(b));
    expect(keysOf(b.directory)).toEqual([listener.key]);
    mesh.fill('a', 'b', false);
    await them.elapse(MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([]);
  });

  test('what was announced and is never confirmed counts no longer after a while', async () => {
    await using it = await pair();
    const { b, them } = it;
    const { epoch } = b.directory.self();
    const { key, ...rest } = aListener();
    const { text } = formatRow({ key, ...rest });
    const announced = { node: 'a', epoch, rows: [[key, text] as const], released: [] };
    b.directory.announcements.heard('a', { ...announced, isAway: true });
    await them.elapse(3 * TEST_TIMES.announcementSettleMs);
    expect(keysOf(b.directory)).toEqual([key]);
    b.directory.announcements.heard('a', { ...announced, isAway: false });
    await them.elapse(TEST_TIMES.announcementSettleMs - MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([key]);
    await them.elapse(2 * MOMENT_MS);
    expect(keysOf(b.directory)).toEqual([]);
  });

  test('nodes that could not hear each other may have granted too many: all stay, nobody new comes in before they go', async () => {
    await using it = await pair();
    const { a, b, mesh, them } = it;
    const two = { listenersMax: 2 };
    const end = await them.outage();
    mesh.cut('a', 'b');
    const held = [aListener(), aListener(), aListener(), aListener()];
    for (const [i, one] of held.entries()) {
      const { directory } = i < 2 ? a : b;
      expect(await directory.claim(one, two)).toMatchObject({ type: 'claimed' });
    }
    await end();
    mesh.link('a', 'b');
    await them.until('both know all', () =>
      [a, b].every(({ directory }) => keysOf(directory).length === 4),
    );
    for (const [i, { key }] of held.slice(0, 3).entries()) {
      expect(await b.directory.claim(aListener(), two)).toEqual({ type: 'quota-reached' });
      await (i < 2 ? a : b).directory.release(key);
    }
    expect(await b.directory.claim(aListener(), two)).toMatchObject({ type: 'claimed' });
  });
});

describe('is refused, counted and told to the operator:', () => {
  const epoch = `${'0'.repeat(32)}.1`;
  const listener = aListener();
  const row: [string, string] = [listener.key, formatRow(listener).text];
  const good = { node: 'a', epoch, isAway: true, rows: [], released: [] };

  test('listeners of another node', async () => {
    await using it = await linked('a', 'b', 'c');
    const [, b, c] = it.nodes;
    const theirs = aListener();
    await c?.directory.claim(theirs, MANY);
    const ours = aListener();
    await b?.directory.claim(ours, MANY);
    if (b === undefined) throw new Error('three nodes');
    await it.them.until('b knows both', () => keysOf(b.directory).length === 2);
    const { announcements } = b.directory;
    const before = keysOf(b.directory);
    announcements.heard('a', { ...good, node: 'c', rows: [row] });
    expect(announcements.isAway('c')).toBe(false);
    for (const { key } of [theirs, ours]) {
      announcements.heard('a', { ...good, rows: [[key, row[1]]] });
      announcements.heard('a', { ...good, released: [key] });
    }
    expect(keysOf(b.directory)).toEqual(before);
    expect(b.directory.stats().announcementsRefused).toEqual({
      forged: 5,
      unreadable: 0,
      'too-many': 0,
    });
    expect(b.directory.warnings()).toEqual([
      'Forged: node "a" announced listeners of node "c", which is refused',
      'Forged: node "a" announced listeners of another node, which is refused',
    ]);
  });

  test('what cannot be read; what can be counts all the same', async () => {
    await using it = await pair();
    const { b } = it;
    const { announcements } = b.directory;
    announcements.heard('a', { ...good, epoch: 'yesterday', rows: [row] });
    announcements.heard('a', { ...good, released: ['a key with spaces'] });
    announcements.heard('a', { ...good, rows: [['x', 'no row'], row] });
    expect(keysOf(b.directory)).toEqual([listener.key]);
    expect(b.directory.stats().announcementsRefused.unreadable).toBe(3);
    expect(b.directory.warnings()).toHaveLength(1);
  });

  test('more in one message, and more of one node, than there may be', async () => {
    await using it = await pair();
    const { b } = it;
    const { announcements } = b.directory;
    const some = (count: number): (readonly [string, string])[] =>
      Array.from({ length: count }, () => {
        const { key } = aListener();
        return [key, row[1]];
      });
    announcements.heard('a', { ...good, rows: some(ANNOUNCED_PER_MESSAGE_MAX + 1) });
    expect(keysOf(b.directory)).toEqual([]);
    for (let count = 0; count < ANNOUNCED_ROWS_MAX; count += ANNOUNCED_PER_MESSAGE_MAX) {
      const place = formatRow(aListener({ hybridConnection: `place-${count}` })).text;
      const rows = some(ANNOUNCED_PER_MESSAGE_MAX).map(([key]) => [key, place] as const);
      announcements.heard('a', { ...good, rows });
    }
    announcements.heard('a', { ...good, rows: [row], released: ['one'] });
    expect(keysOf(b.directory)).toEqual([]);
    expect(b.directory.stats()).toMatchObject({
      announcedRows: ANNOUNCED_ROWS_MAX,
      announcementsRefused: { 'too-many': ANNOUNCED_PER_MESSAGE_MAX + 3 },
    });
    expect(b.directory.warnings()).toHaveLength(2);
  });
});

test('a node tells of no more than it may, and says so', async () => {
  await using it = await pair();
  const { a, b, them } = it;
  await them.outage();
  for (let i = 0; i < ANNOUNCED_ROWS_MAX + 2; i += 1) {
    await a.directory.claim(aListener({ hybridConnection: `place-${i % 1_000}` }), MANY);
  }
  await them.elapse(MOMENT_MS);
  expect(b.directory.stats().announcedRows).toBe(ANNOUNCED_ROWS_MAX);
  expect(a.directory.stats().announcementsUntold).toBe(2);
  expect(a.directory.warnings()).toEqual([
    expect.stringContaining(`More than ${ANNOUNCED_ROWS_MAX} listeners`),
  ]);
  expect(b.directory.warnings()).toEqual([]);
});

test('after any history of links and outages all memories are what the nodes hold', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(happening, { maxLength: 60 }),
      fc.constantFrom(3, 1_000),
      async (history, feedChangesMax) => {
        const start = () => memoryDirectories({ feedChangesMax, mesh: new MemoryMesh() });
        await runHistory(start, history);
      },
    ),
    { numRuns: 60 },
  );
});
