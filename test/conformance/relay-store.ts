import { describe, expect, test } from 'vitest';
import { recordKey, type RelayRecord } from '../../src/store/records.ts';
import {
  CHANGES_AT_A_TIME,
  FEED_CHANGES_MAX,
  type Change,
  type Position,
  type RelayStore,
  type WriteOutcome,
} from '../../src/store/relay-store.ts';
import { within } from '../support/within.ts';

export interface StoreUnderTest extends AsyncDisposable {
  readonly store: RelayStore;
  /** Another node's view of the same records; the same one where there is only one node. */
  readonly other: RelayStore;
}

export interface SpoiledStoreUnderTest extends StoreUnderTest {
  /** Puts a text that is no record of ours in place of a record. */
  readonly spoil: (key: string) => Promise<void>;
}

const WRITTEN = { createdAtMs: 1_000, updatedAtMs: 2_000, revision: 'r1' };
const NEW = { expectedVersion: 0, hybridConnectionsMax: 10 };
const NO_WAIT_MS = 1;
const LONG_WAIT_MS = 20_000;

export function aHybridConnection(name: string, userMetadata = ''): RelayRecord {
  return {
    namespace: 'Tests',
    hybridConnection: { name, requiresClientAuthorization: true, userMetadata, ...WRITTEN },
    rules: [],
  };
}

function namespaceRules(namespace: string): RelayRecord {
  const keys = { primaryKey: 'one=', secondaryKey: 'ünder 2;' };
  return { namespace, rules: [{ name: 'Rule', rights: ['Listen', 'Send'], ...keys, ...WRITTEN }] };
}

function positionOf(outcome: WriteOutcome): Position {
  if (outcome.type !== 'written') throw new Error(`Not written: ${JSON.stringify(outcome)}`);
  return outcome.position;
}

async function start(store: RelayStore): Promise<Position> {
  await store.restore([]);
  const { position } = await store.snapshot();
  if (position === undefined) throw new Error('The store has not begun');
  return position;
}

async function changesAfter(store: RelayStore, position: Position): Promise<readonly Change[]> {
  const changes = await store.changesAfter(position, NO_WAIT_MS);
  if (changes === 'position-lost') throw new Error('The position is lost');
  return changes;
}

/** What every RelayStore promises; run once per implementation. */
export function describeRelayStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} as a RelayStore`, () => {
    test('snapshot() gives back what put() wrote, whole, with the number of its change', async () => {
      await using it = await open();
      const one = positionOf(await it.store.put(aHybridConnection('Orders/EU', 'ä "x"\n'), NEW));
      const two = positionOf(await it.store.put(namespaceRules('Tests'), NEW));
      const { position, records, unreadable } = await it.other.snapshot();
      expect([one.number, two.number]).toEqual([1, 2]);
      expect(position).toEqual(two);
      expect(records).toHaveLength(2);
      expect(records).toContainEqual({
        version: 1,
        record: aHybridConnection('Orders/EU', 'ä "x"\n'),
      });
      expect(records).toContainEqual({ version: 2, record: namespaceRules('Tests') });
      expect(unreadable).toEqual([]);
    });

    test('put() with version 0 refuses a record that is there, in whatever case', async () => {
      await using it = await open();
      await it.store.put(aHybridConnection('orders'), NEW);
      const again = await it.other.put(aHybridConnection('ORDERS'), NEW);
      expect(again).toEqual({ type: 'conflict', version: 1 });
    });

    test('put() replaces the version it was told, and no other', async () => {
      await using it = await open();
      await it.store.put(aHybridConnection('orders'), NEW);
      const update = { ...NEW, expectedVersion: 1 };
      const second = await it.other.put(aHybridConnection('orders', 'second'), update);
      expect(positionOf(second).number).toBe(2);
      const late = await it.store.put(aHybridConnection('orders', 'late'), update);
      expect(late).toEqual({ type: 'conflict', version: 2 });
      const { records } = await it.store.snapshot();
      expect(records).toEqual([{ version: 2, record: aHybridConnection('orders', 'second') }]);
    });

    test('put() lets one of many writers win', async () => {
      await using it = await open();
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          (i % 2 === 0 ? it.store : it.other).put(aHybridConnection('orders', `${i}`), NEW),
        ),
      );
      expect(outcomes.filter(({ type }) => type === 'written')).toHaveLength(1);
      expect(outcomes.filter(({ type }) => type === 'conflict')).toHaveLength(9);
    });

    test('put() refuses a hybrid connection beyond the limit, but no namespace and no update', async () => {
      await using it = await open();
      const two = { expectedVersion: 0, hybridConnectionsMax: 2 };
      await it.store.put(aHybridConnection('a'), two);
      await it.store.put(aHybridConnection('b'), two);
      expect(await it.store.put(aHybridConnection('c'), two)).toEqual({ type: 'full' });
      expect((await it.store.put(namespaceRules('tests'), two)).type).toBe('written');
      const update = { expectedVersion: 1, hybridConnectionsMax: 2 };
      expect((await it.store.put(aHybridConnection('a'), update)).type).toBe('written');
      await it.store.delete(recordKey('tests', 'b'), 2);
      expect((await it.store.put(aHybridConnection('c'), two)).type).toBe('written');
    });

    test('put() takes no hybrid connection at all with a limit of 0', async () => {
      await using it = await open();
      const none = { expectedVersion: 0, hybridConnectionsMax: 0 };
      expect(await it.store.put(aHybridConnection('a'), none)).toEqual({ type: 'full' });
    });

    test('delete() removes the version it was told, and no other', async () => {
      await using it = await open();
      await it.store.put(aHybridConnection('orders'), NEW);
      const key = recordKey('TESTS', 'Orders');
      expect(await it.other.delete(key, 7)).toEqual({ type: 'conflict', version: 1 });
      expect(positionOf(await it.other.delete(key, 1)).number).toBe(2);
      expect(await it.store.delete(key, 1)).toEqual({ type: 'conflict', version: 0 });
      expect((await it.store.snapshot()).records).toEqual([]);
    });

    test('changesAfter() tells every change in order, deletions too', async () => {
      await using it = await open();
      const begin = await start(it.store);
      const first = positionOf(await it.store.put(aHybridConnection('a'), NEW));
      await it.store.put(aHybridConnection('a', 'b'), { ...NEW, expectedVersion: 1 });
      const last = positionOf(await it.store.delete(recordKey('tests', 'a'), 2));
      const changes = await changesAfter(it.other, first);
      expect(changes).toEqual([
        {
          position: { ...first, number: 2, tag: changes[0]?.position.tag },
          key: recordKey('tests', 'a'),
          stored: { version: 2, record: aHybridConnection('a', 'b') },
        },
        { position: last, key: recordKey('tests', 'a'), stored: 'deleted' },
      ]);
      expect(await changesAfter(it.other, last)).toEqual([]);
      expect(last).toMatchObject({ incarnation: begin.incarnation, number: 3 });
    });

    test('changesAfter() waits for the next change of any node', async () => {
      await using it = await open();
      const position = positionOf(await it.store.put(aHybridConnection('a'), NEW));
      const waiting = it.store.changesAfter(position, LONG_WAIT_MS);
      await it.other.put(aHybridConnection('b'), NEW);
      const changes = await within('the change', waiting);
      expect(changes).toMatchObject([{ key: { hybridConnection: 'b' } }]);
    });

    test('changesAfter() gives many changes in parts', async () => {
      await using it = await open();
      const first = positionOf(await it.store.put(aHybridConnection('first'), NEW));
      const many = { expectedVersion: 0, hybridConnectionsMax: 1_000 };
      for (let i = 0; i < CHANGES_AT_A_TIME + 5; i += 1) {
        await it.store.put(aHybridConnection(`hc${i}`), many);
      }
      const part = await changesAfter(it.store, first);
      expect(part).toHaveLength(CHANGES_AT_A_TIME);
      const rest = await changesAfter(it.store, part.at(-1)?.position ?? first);
      expect(rest.map(({ position }) => position.number)).toEqual(
        [1, 2, 3, 4, 5].map(n => CHANGES_AT_A_TIME + 1 + n),
      );
    });

    test('changesAfter() says when the feed does not reach back so far', async () => {
      await using it = await open();
      const first = positionOf(await it.store.put(aHybridConnection('a'), NEW));
      let last = first;
      // Redis trims its stream by whole nodes of it.
      for (let i = 0; i < FEED_CHANGES_MAX + 200; i += 1) {
        const guard = { ...NEW, expectedVersion: last.number };
        last = positionOf(await it.store.put(aHybridConnection('a', `${i}`), guard));
      }
      expect(await it.other.changesAfter(first, NO_WAIT_MS)).toBe('position-lost');
      expect(await it.other.changesAfter(last, NO_WAIT_MS)).toEqual([]);
    });

    test('changesAfter() says when the position is of another history', async () => {
      await using it = await open();
      const last = positionOf(await it.store.put(aHybridConnection('a'), NEW));
      const others = [
        { ...last, incarnation: 'other' },
        { ...last, number: last.number + 1 },
      ];
      for (const position of others) {
        expect(await it.store.changesAfter(position, NO_WAIT_MS)).toBe('position-lost');
      }
    });

    test('restore() leaves records alone that are there', async () => {
      await using it = await open();
      await it.store.put(aHybridConnection('a'), NEW);
      expect(await it.store.restore([aHybridConnection('b')])).toBe(false);
      expect((await it.store.snapshot()).records).toHaveLength(1);
    });

    test('close() ends a wait with nothing, and may be called twice', async () => {
      await using it = await open();
      const position = positionOf(await it.store.put(aHybridConnection('a'), NEW));
      const waiting = it.store.changesAfter(position, LONG_WAIT_MS);
      await it.other.snapshot();
      it.store.close();
      it.store.close();
      expect(await within('the end of the wait', waiting)).toEqual([]);
    });
  });
}

/** What those promise besides that others can write to. */
export function describeSpoiledStore(
  name: string,
  open: () => Promise<SpoiledStoreUnderTest>,
): void {
  describe(`${name} as a RelayStore`, () => {
    test('snapshot() passes over what is no record of ours, and names it', async () => {
      await using it = await open();
      await it.store.put(aHybridConnection('a'), NEW);
      await it.store.put(aHybridConnection('b'), NEW);
      await it.spoil('tests/a');
      const { records, unreadable } = await it.store.snapshot();
      expect(records).toMatchObject([{ record: { hybridConnection: { name: 'b' } } }]);
      expect(unreadable).toEqual(['tests/a']);
    });
  });
}
