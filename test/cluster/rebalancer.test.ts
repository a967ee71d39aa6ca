import { describe, expect, test } from 'vitest';
import type {
  DegradedReason,
  DirectoryEvent,
  NodeRecord,
  NodeState,
} from '../../src/cluster/listener-directory.ts';
import { Rebalancer } from '../../src/cluster/rebalancer.ts';
import type { EntityName } from '../../src/relay/ports.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { CountingRandomness, FakeMeter } from '../support/relay-doubles.ts';
import { MemoryLog } from '../support/relay.ts';

const INTERVAL_MS = 60_000;
/** Of the first round: it begins after a quarter of the interval, and takes a third. */
const OVER_MS = 0.65 * INTERVAL_MS;
const ROUNDS = 'halfway_rebalancing_rounds_total{}';

interface Together {
  readonly reachable: FakeListener[];
}

interface FakeListener {
  readonly name: string;
  readonly hybridConnection: Together;
  readonly connectedAtMs: number;
  isLeaving: boolean;
}

/** Node `a` with so many listeners, each of a hybrid connection of its own, and others as told. */
function stage(own: number, others: Readonly<Record<string, number>>, isOn = true) {
  const clock = new FakeClock();
  const log = new MemoryLog();
  const meter = new FakeMeter();
  const counts = new Map(Object.entries(others));
  const states = new Map<string, NodeState>(['a', ...counts.keys()].map(node => [node, 'active']));
  const unlinked = new Set<string>();
  const degraded: DegradedReason[] = [];
  const listeners = new Set<FakeListener>();
  const asked: { readonly name: string; readonly atMs: number }[] = [];
  const expected: EntityName[] = [];
  /** Listeners that say: not now. */
  const busy = new Set<string>();
  const observers = new Set<(event: DirectoryEvent) => void>();
  const add = (name: string, together: Together = { reachable: [] }): void => {
    const listener: FakeListener = {
      name,
      hybridConnection: together,
      connectedAtMs: clock.nowMs(),
      isLeaving: false,
    };
    together.reachable.push(listener);
    listeners.add(listener);
  };
  for (let i = 0; i < own; i += 1) add(`listener ${i}`);
  const record = (node: string): NodeRecord => ({
    node,
    epoch: 'e',
    meshAddress: 'h:1',
    versions: { min: 1, max: 1 },
    state: states.get(node) ?? 'active',
  });
  const rebalancer = new Rebalancer<FakeListener>({
    clock,
    random: new CountingRandomness(),
    log,
    meter,
    isOn,
    isLinked: node => !unlinked.has(node),
    intervalMs: INTERVAL_MS,
    listenersByNode: () => new Map([...counts, ['a', listeners.size]]),
    relay: {
      listeners,
      moveListener: listener => {
        if (busy.has(listener.name)) return false;
        asked.push({ name: listener.name, atMs: clock.nowMs() });
        listener.isLeaving = true;
        listeners.delete(listener);
        return true;
      },
      expectListener: ({ namespace, hybridConnection }) =>
        void expected.push({ namespace, hybridConnection }),
    },
    directory: {
      self: () => record('a'),
      node: node => (states.has(node) ? record(node) : undefined),
      nodes: () => [...states.keys()].map(record),
      degradedReasons: () => degraded,
      observe: observer => {
        observers.add(observer);
        return () => observers.delete(observer);
      },
    },
  });
  const tell = (event: DirectoryEvent): void => {
    for (const observer of observers) observer(event);
  };
  return {
    clock,
    log,
    asked,
    expected,
    busy,
    counts,
    states,
    unlinked,
    degraded,
    listeners,
    observers,
    add,
    tell,
    join: (node: string) => {
      states.set(node, 'active');
      tell({ type: 'node-joined', node: record(node) });
    },
    /** A listener of another node went. */
    lose: (node: string, why: 'released' | 'node-gone' = 'released') => {
      const claim = {
        key: 'k',
        namespace: 'n',
        hybridConnection: 'h',
        listenerId: 'l',
        origin: 'o',
      };
      tell({ type: 'listener-removed', why, row: { ...claim, node, epoch: 'e' } });
    },
    stop: () => rebalancer.stop(),
    rounds: () => meter.counts.get(ROUNDS) ?? 0,
  };
}

describe('Rebalancer', () => {
  test('asks the surplus, over a third of the interval, and says so once', () => {
    const it = stage(300, { b: 300, c: 0 });
    it.clock.advance(OVER_MS);
    expect(it.asked).toHaveLength(60);
    const times = it.asked.map(({ atMs }) => atMs);
    expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(INTERVAL_MS / 6);
    expect(Math.max(...times) - Math.min(...times)).toBeLessThan(INTERVAL_MS / 3);
    expect(it.rounds()).toBe(1);
    expect(it.log.lines).toHaveLength(1);
    expect(JSON.parse(it.log.lines[0] ?? '')).toMatchObject({
      event: 'Rebalancing',
      listeners: 300,
      average: 200,
      nodes: 3,
      asked: 60,
    });
  });

  test('has one round in an interval, and is still when it has come down to its share', () => {
    const it = stage(300, { b: 300, c: 0 });
    it.clock.advance(OVER_MS);
    it.counts.set('c', 60);
    it.clock.advance(INTERVAL_MS - OVER_MS);
    expect(it.rounds()).toBe(1);
    it.clock.advance(INTERVAL_MS);
    expect(it.rounds()).toBe(2);
    expect(it.listeners.size).toBe(220);
    it.counts.set('b', 220).set('c', 160);
    it.clock.advance(20 * INTERVAL_MS);
    expect([it.rounds(), it.listeners.size]).toEqual([2, 220]);
  });

  test.each<[why: string, spoil: (it: ReturnType<typeof stage>) => void]>([
    ['this node drains', it => it.states.set('a', 'draining')],
    ['Redis is away', it => it.degraded.push('coordinator-away')],
    ['changes were missed', it => it.degraded.push('catching-up')],
    ['all others drain', it => it.states.set('b', 'draining').set('c', 'draining')],
    ['no other can be reached', it => it.unlinked.add('b').add('c')],
    [
      'one drains and one cannot be reached',
      it => void it.unlinked.add(it.states.set('b', 'draining') ? 'c' : ''),
    ],
  ])('asks nobody while %s', (_why, spoil) => {
    const it = stage(600, { b: 0, c: 0 });
    spoil(it);
    it.clock.advance(10 * INTERVAL_MS);
    expect([it.asked, it.rounds()]).toEqual([[], 0]);
  });

  test('asks nobody where it is switched off', () => {
    const it = stage(600, { b: 0 }, false);
    it.clock.advance(10 * INTERVAL_MS);
    expect(it.asked).toEqual([]);
  });

  test('does not count nodes that drain or cannot be reached', () => {
    const it = stage(300, { b: 300, c: 0, d: 0 });
    it.states.set('c', 'draining');
    it.unlinked.add('d');
    it.clock.advance(10 * INTERVAL_MS);
    expect(it.asked).toEqual([]);
  });

  test('waits until nodes have neither come nor gone for a while', () => {
    const it = stage(600, { b: 0 });
    for (let i = 0; i < 50; i += 1) {
      it.clock.advance(INTERVAL_MS / 5);
      it.join('b');
    }
    expect(it.asked).toEqual([]);
    it.clock.advance(INTERVAL_MS);
    expect(it.rounds()).toBe(1);
  });

  test.each<[why: string, spoil: (it: ReturnType<typeof stage>) => void]>([
    ['this node begins to drain', it => it.states.set('a', 'draining')],
    ['Redis goes away', it => it.degraded.push('coordinator-away')],
    ['a node joins', it => it.join('c')],
    ['it is stopped', it => it.stop()],
  ])('breaks a round off when %s', (_why, spoil) => {
    const it = stage(600, { b: 0 });
    it.clock.advance(INTERVAL_MS / 3);
    const before = it.asked.length;
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThan(120);
    spoil(it);
    it.clock.advance(INTERVAL_MS / 5);
    expect(it.asked).toHaveLength(before);
  });

  test('asks listeners of one hybrid connection far apart', () => {
    const it = stage(0, { b: 0 });
    for (let i = 0; i < 4; i += 1) {
      const together: Together = { reachable: [] };
      for (let j = 0; j < 25; j += 1) it.add(`${i}`, together);
    }
    it.clock.advance(INTERVAL_MS);
    expect(it.asked).toHaveLength(20);
    const byName = new Map<string, number[]>();
    for (const { name, atMs } of it.asked) byName.set(name, [...(byName.get(name) ?? []), atMs]);
    for (const times of byName.values()) {
      expect(times).toHaveLength(5);
      for (const [i, atMs] of times.entries()) {
        const before = times[i - 1];
        if (before !== undefined) expect(atMs - before).toBeGreaterThan(INTERVAL_MS / 3 / 6);
      }
    }
  });

  test('asks those first that others stand in for, then those that have been here longest', () => {
    const it = stage(0, { b: 0 });
    for (let i = 0; i < 60; i += 1) it.add('early');
    it.clock.advance(1);
    for (let i = 0; i < 35; i += 1) it.add('late');
    const together: Together = { reachable: [] };
    for (let i = 0; i < 5; i += 1) it.add('one of several', together);
    it.clock.advance(OVER_MS);
    const names = it.asked.map(({ name }) => name).toSorted();
    expect(names).toEqual([...Array(15).fill('early'), ...Array(5).fill('one of several')]);
  });

  test('comes back to those that could not be asked, in the same round', () => {
    const it = stage(100, { b: 0 });
    for (let i = 0; i < 20; i += 1) it.busy.add(`listener ${i}`);
    it.clock.advance(INTERVAL_MS / 3);
    expect(it.asked).toEqual([]);
    it.busy.clear();
    it.clock.advance(INTERVAL_MS / 3);
    expect(it.asked).toHaveLength(20);
    expect(it.rounds()).toBe(1);
  });

  test('asks ever less often when those who are asked come back', () => {
    const it = stage(200, { b: 0 });
    const sticky = setIntervalOf(it.clock, 500, () => {
      while (it.listeners.size < 200) it.add('back again');
    });
    it.clock.advance(32 * INTERVAL_MS);
    const rounds = it.rounds();
    expect(rounds).toBeGreaterThan(3);
    expect(rounds).toBeLessThan(8);
    it.clock.advance(160 * INTERVAL_MS);
    expect(it.rounds() - rounds).toBeLessThan(12);
    // A node that comes is a reason to try again.
    const before = it.rounds();
    it.join('c');
    it.clock.advance(2 * INTERVAL_MS);
    expect(it.rounds()).toBeGreaterThan(before);
    sticky();
  });

  test('expects listeners back that most likely were asked to move, and no others', () => {
    const it = stage(100, { b: 300, c: 100 });
    it.clock.advance(INTERVAL_MS);
    it.lose('c');
    expect(it.expected).toEqual([]);
    it.lose('b');
    expect(it.expected).toEqual([{ namespace: 'n', hybridConnection: 'h' }]);
    it.lose('c', 'node-gone');
    expect(it.expected).toHaveLength(2);
    it.states.set('c', 'draining');
    it.lose('c');
    expect(it.expected).toHaveLength(3);
    it.lose('a');
    expect(it.expected).toHaveLength(3);
  });

  test('stop() leaves no timer and no observer behind', () => {
    const it = stage(600, { b: 0 });
    it.clock.advance(INTERVAL_MS / 3);
    it.stop();
    expect([it.clock.pendingTasks, it.observers.size]).toEqual([0, 0]);
  });
});

/** Something that is done over and over; what is returned ends it. */
function setIntervalOf(clock: FakeClock, everyMs: number, task: () => void): () => void {
  let cancel = clock.after(everyMs, again);
  function again(): void {
    task();
    cancel = clock.after(everyMs, again);
  }
  return () => cancel();
}
