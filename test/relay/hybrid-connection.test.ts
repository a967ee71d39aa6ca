import { expect, test } from 'vitest';
import { Randomness } from '../../src/auth/randomness.ts';
import type { ReachableListener } from '../../src/relay/ports.ts';
import { controlChannel, hybridConnection } from '../support/control-channels.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { pendingOffer } from '../support/relay-doubles.ts';

const random = new Randomness();
const PENDING = pendingOffer();

function withListeners(count: number) {
  const entity = hybridConnection();
  const clock = new FakeClock();
  const listeners = Array.from(
    { length: count },
    (_, i) =>
      controlChannel(clock, {
        hybridConnection: entity,
        listenerId: `00000000-0000-4000-8000-00000000000${i}`,
      }).channel,
  );
  return { entity, listeners, ids: listeners.map(listener => listener.listenerId) };
}

/** How often each was chosen, when every choice is settled at once. */
function tally(count: number, choose: () => ReachableListener | undefined) {
  const times = new Map<ReachableListener | undefined, number>();
  for (let i = 0; i < count; i += 1) {
    const chosen = choose();
    times.set(chosen, (times.get(chosen) ?? 0) + 1);
  }
  return times;
}

test('choose() finds nobody where nobody listens', () => {
  const { entity } = withListeners(0);
  expect(entity.choose(random)).toBeUndefined();
  expect(entity.hasAny({})).toBe(false);
});

test.each([2, 3, 25])('choose() asks each of %i idle listeners about equally often', count => {
  const { entity, listeners } = withListeners(count);
  const rounds = 400 * count;
  const times = tally(rounds, () => entity.choose(random));
  for (const listener of listeners) {
    // 400 expected; six standard deviations on either side.
    expect(times.get(listener)).toBeGreaterThan(400 - 120);
    expect(times.get(listener)).toBeLessThan(400 + 120);
  }
});

test('choose() keeps work that is not settled even, within what two draws can do', () => {
  const { entity, listeners } = withListeners(10);
  for (let i = 0; i < 1_000; i += 1) entity.choose(random)?.offer(PENDING, String(i));
  // The same pending thing again: make each count.
  for (let i = 0; i < 1_000; i += 1) {
    entity.choose(random)?.offer(pendingOffer(), String(i));
  }
  const loads = listeners.map(listener => listener.outstanding);
  expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(10);
});

test('choose() spares a listener that does not settle what it has', () => {
  const { entity, listeners } = withListeners(3);
  const [slow] = listeners;
  for (let i = 0; i < 5; i += 1) slow?.offer(pendingOffer(), 'x');
  const times = tally(600, () => entity.choose(random));
  expect(times.get(slow) ?? 0).toBe(0);
});

test('choose() passes over those that had their turn', () => {
  const { entity, listeners } = withListeners(3);
  const except = new Set(listeners.slice(0, 2));
  expect(entity.choose(random, { except })).toBe(listeners[2]);
  expect(entity.choose(random, { except: new Set(listeners) })).toBeUndefined();
});

test('choose() keeps to the listeners a sender allows, and off those it does not', () => {
  const { entity, listeners, ids } = withListeners(3);
  const [first = '', second = '', third = ''] = ids;
  expect(entity.choose(random, { filter: { allowed: new Set([second]) } })).toBe(listeners[1]);
  expect(entity.choose(random, { filter: { disallowed: new Set([first, third]) } })).toBe(
    listeners[1],
  );
  const both = { allowed: new Set([first]), disallowed: new Set([first]) };
  expect(entity.choose(random, { filter: both })).toBeUndefined();
  expect(entity.choose(random, { filter: { allowed: new Set() } })).toBeUndefined();
  expect(entity.hasAny({ filter: { allowed: new Set([third]) } })).toBe(true);
});

test('remove() takes one listener out, once', () => {
  const { entity, listeners } = withListeners(2);
  const [first, second] = listeners;
  if (first === undefined) throw new Error('no listener');
  entity.remove(first);
  entity.remove(first);
  expect(entity.listeners).toEqual([second]);
  expect(entity.choose(random)).toBe(second);
});

/** One for a single listener, and what becomes of those that come. */
function forOneListener() {
  const entity = hybridConnection('hyco', { replacesListener: true });
  const clock = new FakeClock();
  return { entity, come: () => controlChannel(clock, { hybridConnection: entity }) };
}

function listenerElsewhere(listenerId: string): ReachableListener {
  return { listenerId, origin: '', outstanding: 0, offer: () => true, settled: () => undefined };
}

test('add() lets a newer listener take the place of the older at once, where there is one place', () => {
  const { entity, come } = forOneListener();
  const [older, newer] = [come(), come()];
  expect(older.socket.closes).toEqual([
    { code: 1008, reason: 'A newer listener has taken the place of this one' },
  ]);
  expect(newer.socket.closes).toEqual([]);
  // The older one may linger: nothing is put before it any more.
  expect(entity.reachable).toEqual([newer.channel]);
  older.channel.closed(1008);
  expect(older.ends).toEqual(['replaced']);
});

test('setElsewhere() lets a listener that came to another node take the place of one here', () => {
  const { entity, come } = forOneListener();
  const here = come();
  const there = listenerElsewhere('there');
  entity.setElsewhere([there]);
  expect(here.socket.closes).toHaveLength(1);
  expect(entity.reachable).toEqual([there]);
});

test('setElsewhere() leaves a listener here that is newer than what was known of elsewhere', () => {
  const { entity, come } = forOneListener();
  const there = listenerElsewhere('there');
  entity.setElsewhere([there]);
  const here = come();
  entity.setElsewhere([there]);
  entity.setElsewhere([]);
  expect(here.socket.closes).toEqual([]);
});
