import { describe, expect, test } from 'vitest';
import type { ListenerDirectory, ListenerRow } from '../../src/cluster/listener-directory.ts';
import { aListener, TEST_TIMES, type DirectoriesUnderTest } from '../support/directories.ts';

const ONE = { listenersMax: 1 };
const MANY = { listenersMax: 1_000 };

function ordersOf(directory: ListenerDirectory): readonly ListenerRow[] {
  return directory.listenersOf('tests', 'orders');
}

function keysOf(directory: ListenerDirectory): readonly string[] {
  return ordersOf(directory)
    .map(({ key }) => key)
    .toSorted();
}

function isWhole(directory: ListenerDirectory): boolean {
  return directory.degradedReasons().length === 0;
}

/** What every ListenerDirectory promises; run once per implementation. */
export function describeListenerDirectory(
  name: string,
  start: (options?: { readonly feedChangesMax?: number }) => Promise<DirectoriesUnderTest>,
): void {
  describe(`${name} as a ListenerDirectory`, () => {
    test('join() makes a node and its address known to all others', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      expect(b.joined).toEqual({ type: 'joined' });
      expect(b.directory.node('a')).toMatchObject({
        meshAddress: 'a.example:7000',
        state: 'active',
      });
      await them.until('a knows b', () => a.directory.node('b') !== undefined);
      expect(a.directory.nodes().map(({ node }) => node)).toEqual(['a', 'b']);
      expect(a.events).toContainEqual({ type: 'node-joined', node: b.directory.self() });
      expect(isWhole(a.directory) && isWhole(b.directory)).toBe(true);
    });

    test('claim() shows the listener here at once and elsewhere soon; release() takes it away', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      const listener = aListener();
      expect(await a.directory.claim(listener, MANY)).toEqual({
        type: 'claimed',
        provisional: false,
      });
      const { epoch } = a.directory.self();
      expect(ordersOf(a.directory)).toEqual([{ ...listener, node: 'a', epoch }]);
      await them.until('b sees it', () => ordersOf(b.directory).length === 1);
      expect(ordersOf(b.directory)).toEqual([{ ...listener, node: 'a', epoch }]);

      await a.directory.release(listener.key);
      await a.directory.release(listener.key);
      expect(ordersOf(a.directory)).toEqual([]);
      await them.until('b sees that it is gone', () => ordersOf(b.directory).length === 0);
      expect(b.events.map(({ type }) => type).slice(-2)).toEqual([
        'listener-added',
        'listener-removed',
      ]);
    });

    test('a node that joins later knows every listener, more than one page of them', async () => {
      await using them = await start();
      const a = await them.open('a');
      for (let i = 0; i < 15; i += 1) {
        const claims = Array.from({ length: 100 }, () =>
          a.directory.claim(aListener(), { listenersMax: 10_000 }),
        );
        await Promise.all(claims);
      }
      const b = await them.open('b');
      expect(keysOf(b.directory)).toEqual(keysOf(a.directory));
      expect(b.directory.stats().remoteRows).toBe(1_500);
    });

    test('claim() never lets several nodes together exceed the quota', async () => {
      await using them = await start();
      const nodes = await Promise.all(['a', 'b', 'c'].map(node => them.open(node)));
      const results = await Promise.all(
        nodes.flatMap(({ directory }) =>
          Array.from({ length: 20 }, () => directory.claim(aListener(), { listenersMax: 25 })),
        ),
      );
      expect(results.filter(result => result.type === 'claimed')).toHaveLength(25);
      expect(results.filter(result => result.type === 'quota-reached')).toHaveLength(35);
      await them.until('all see the same', () =>
        nodes.every(({ directory }) => ordersOf(directory).length === 25),
      );
    });

    test('release() makes room for another, also while the claim is under way', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      const listener = aListener();
      const claim = a.directory.claim(listener, ONE);
      await a.directory.release(listener.key);
      await claim;
      expect(ordersOf(a.directory)).toEqual([]);
      expect(await b.directory.claim(aListener(), ONE)).toMatchObject({ type: 'claimed' });
    });

    test('leave() takes a node and its listeners away at once', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      await a.directory.claim(aListener(), ONE);
      await them.until('b sees it', () => ordersOf(b.directory).length === 1);
      const self = a.directory.self();
      await a.directory.leave();
      await them.until('b sees that it is gone', () => b.directory.node('a') === undefined);
      expect(ordersOf(b.directory)).toEqual([]);
      expect(b.events).toContainEqual({ type: 'node-gone', node: self, why: 'left' });
      expect(await b.directory.claim(aListener(), ONE)).toMatchObject({ type: 'claimed' });
    });

    test('setState() tells all others that a node drains', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      await a.directory.setState('draining');
      await them.until('b knows', () => b.directory.node('a')?.state === 'draining');
      expect(b.events).toContainEqual({ type: 'node-changed', node: a.directory.self() });
    });

    test('a dead node and its listeners are gone when its lease is, and its quota is free again', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      await them.elapse(TEST_TIMES.leaseMs);
      await a.directory.claim(aListener(), ONE);
      await them.until('b sees it', () => ordersOf(b.directory).length === 1);
      expect(await b.directory.claim(aListener(), ONE)).toEqual({ type: 'quota-reached' });
      a.cut();
      await them.until('b sees that it is gone', () => b.directory.node('a') === undefined);
      expect(ordersOf(b.directory)).toEqual([]);
      expect(b.events.findLast(({ type }) => type === 'node-gone')).toMatchObject({
        why: 'expired',
      });
      expect(await b.directory.claim(aListener(), ONE)).toMatchObject({ type: 'claimed' });
    });

    test('a node that comes back after its lease was lost takes a new epoch and writes its rows again', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      await them.elapse(TEST_TIMES.leaseMs);
      await Promise.all(Array.from({ length: 250 }, () => a.directory.claim(aListener(), MANY)));
      const before = a.directory.self();
      a.cut();
      await them.until('b dropped a', () => b.directory.node('a') === undefined);
      expect(ordersOf(a.directory)).toHaveLength(250);
      a.mend();
      await them.until('b sees all again', () => ordersOf(b.directory).length === 250);
      await them.until('a is whole', () => isWhole(a.directory));
      const after = a.directory.self();
      expect(after.epoch).not.toBe(before.epoch);
      expect(a.events).toContainEqual({ type: 'lease-lost', epoch: before.epoch });
      expect(a.events).toContainEqual({ type: 'lease-taken', epoch: after.epoch });
      expect(new Set(ordersOf(b.directory).map(({ epoch }) => epoch))).toEqual(
        new Set([after.epoch]),
      );
      expect(keysOf(a.directory)).toEqual(keysOf(b.directory));
    });

    test('claims made alone are counted by memory, and written when the coordinator is back', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      const early = aListener();
      await a.directory.claim(early, MANY);
      await them.until('b sees it', () => ordersOf(b.directory).length === 1);
      b.cut();
      await them.until('b is alone', () => !isWhole(b.directory));
      expect(b.directory.degradedReasons()).toEqual(['coordinator-away']);
      expect(keysOf(b.directory)).toEqual([early.key]);
      const late = aListener();
      expect(await b.directory.claim(late, { listenersMax: 2 })).toEqual({
        type: 'claimed',
        provisional: true,
      });
      expect(await b.directory.claim(aListener(), { listenersMax: 2 })).toEqual({
        type: 'quota-reached',
      });
      expect(b.directory.stats().unwrittenRows).toBe(1);
      b.mend();
      await them.until('a sees it', () => ordersOf(a.directory).length === 2);
      await them.until('b is whole', () => isWhole(b.directory));
      expect(b.directory.stats().unwrittenRows).toBe(0);
    });

    test('releases made alone are carried out when the coordinator is back', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      const listener = aListener();
      await b.directory.claim(listener, MANY);
      await them.until('a sees it', () => ordersOf(a.directory).length === 1);
      b.cut();
      await b.directory.release(listener.key);
      expect(ordersOf(b.directory)).toEqual([]);
      b.mend();
      await them.until('a sees that it is gone', () => ordersOf(a.directory).length === 0);
    });

    test('a node that starts without the coordinator works alone, and joins when it is there', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b', { cut: true });
      expect(b.joined.type).toBe('alone');
      expect(await b.directory.claim(aListener(), ONE)).toEqual({
        type: 'claimed',
        provisional: true,
      });
      b.mend();
      await them.until('a sees its listener', () => ordersOf(a.directory).length === 1);
      await them.until('b knows a', () => b.directory.node('a') !== undefined);
      await them.until('b is whole', () => isWhole(b.directory));
    });

    test('join() refuses a second live node with the same id, and harms the first in nothing', async () => {
      await using them = await start();
      const first = await them.open('a');
      await first.directory.claim(aListener(), ONE);
      const second = await them.open('a');
      expect(second.joined).toMatchObject({ type: 'refused' });
      expect(second.joined).toHaveProperty('message', expect.stringContaining('has the id "a"'));
      const b = await them.open('b');
      expect(ordersOf(b.directory)).toHaveLength(1);
      expect(first.directory.stats().leasesLost).toBe(0);
    });

    test('join() waits for the lease of a predecessor that died, and takes its place', async () => {
      await using them = await start();
      const first = await them.open('a');
      const b = await them.open('b');
      await first.directory.claim(aListener(), ONE);
      await them.until('b sees it', () => ordersOf(b.directory).length === 1);
      first.cut();
      const second = await them.open('a');
      expect(second.joined).toEqual({ type: 'joined' });
      expect(ordersOf(second.directory)).toEqual([]);
      await them.until('b forgot the predecessor', () => ordersOf(b.directory).length === 0);
      expect(await second.directory.claim(aListener(), ONE)).toMatchObject({ type: 'claimed' });

      first.mend();
      await them.until('the predecessor knows', () =>
        first.directory.degradedReasons().includes('node-id-taken'),
      );
      expect(b.directory.node('a')?.epoch).toBe(second.directory.self().epoch);
      await second.directory.leave();
      await them.until('the predecessor takes the id back', () => isWhole(first.directory));
      await them.until('b sees its listener', () => ordersOf(b.directory).length === 1);
    });

    test('suspect() removes a dead node long before its lease ends, and spares a live one', async () => {
      await using them = await start();
      const a = await them.open('a');
      const b = await them.open('b');
      const c = await them.open('c');
      await them.elapse(TEST_TIMES.leaseMs + TEST_TIMES.renewMs);
      await a.directory.claim(aListener(), ONE);
      await them.until('c sees it', () => ordersOf(c.directory).length === 1);
      a.cut();
      const verdicts = Promise.all([b.directory.suspect('a'), b.directory.suspect('c')]);
      await them.elapse(TEST_TIMES.suspicionGraceMs + 50);
      expect(await verdicts).toEqual(['gone', 'alive']);
      await them.until('c knows', () => c.directory.node('a') === undefined);
      expect(c.events.findLast(({ type }) => type === 'node-gone')).toMatchObject({
        why: 'expelled',
      });
      expect(ordersOf(c.directory)).toEqual([]);
      expect(c.directory.stats().leasesLost).toBe(0);
      expect(await b.directory.suspect('nobody')).toBe('gone');
    });

    test('suspect() decides nothing while the coordinator is away', async () => {
      await using them = await start();
      const a = await them.open('a');
      await them.open('b');
      a.cut();
      await them.until('a is alone', () => !isWhole(a.directory));
      expect(await a.directory.suspect('b')).toBe('unknown');
      expect(a.directory.node('b')).toMatchObject({ node: 'b' });
    });

    test('an outage longer than any lease takes nobody away, before or after', async () => {
      await using them = await start();
      const nodes = await Promise.all(['a', 'b', 'c'].map(node => them.open(node)));
      await them.elapse(TEST_TIMES.leaseMs);
      for (const { directory } of nodes) await directory.claim(aListener(), MANY);
      await them.until('all see all', () =>
        nodes.every(({ directory }) => ordersOf(directory).length === 3),
      );
      const end = await them.outage();
      await them.elapse(2 * TEST_TIMES.leaseMs);
      for (const { directory } of nodes) {
        expect(directory.degradedReasons()).toContain('coordinator-away');
        expect(ordersOf(directory)).toHaveLength(3);
        expect(directory.nodes()).toHaveLength(3);
      }
      await end();
      await them.until('all are whole', () => nodes.every(({ directory }) => isWhole(directory)));
      await them.elapse(2 * TEST_TIMES.leaseMs);
      for (const { directory, events } of nodes) {
        expect(ordersOf(directory)).toHaveLength(3);
        expect(directory.stats().leasesLost).toBe(0);
        expect(events.filter(({ type }) => type === 'node-gone')).toEqual([]);
        expect(events.filter(({ type }) => type === 'healthy').length).toBeGreaterThan(0);
      }
    });

    test('a coordinator that forgot everything is told everything again', async () => {
      await using them = await start();
      const nodes = await Promise.all(['a', 'b', 'c'].map(node => them.open(node)));
      for (const { directory } of nodes) {
        await Promise.all(Array.from({ length: 50 }, () => directory.claim(aListener(), MANY)));
      }
      const [a] = nodes;
      await them.until('a sees all', () => a !== undefined && ordersOf(a.directory).length === 150);
      await them.erase();
      await them.until('all took a new epoch and are whole', () =>
        nodes.every(({ directory }) => directory.stats().leasesLost === 1 && isWhole(directory)),
      );
      await them.until('all see all', () =>
        nodes.every(({ directory }) => ordersOf(directory).length === 150),
      );
      const late = await them.open('d');
      expect(ordersOf(late.directory)).toHaveLength(150);
    });

    test('a node that missed more changes than the feed keeps reads the whole', async () => {
      await using them = await start({ feedChangesMax: 10 });
      const a = await them.open('a');
      const b = await them.open('b');
      await them.elapse(TEST_TIMES.leaseMs);
      b.cut();
      await them.until('b is alone', () => !isWhole(b.directory));
      for (let i = 0; i < 5; i += 1) {
        await Promise.all(Array.from({ length: 60 }, () => a.directory.claim(aListener(), MANY)));
      }
      b.mend();
      await them.until('b sees all', () => ordersOf(b.directory).length === 300);
      await them.until('b is whole', () => isWhole(b.directory));
      expect(b.directory.stats().reconciliations.gap).toBeGreaterThan(0);
    });
  });
}
