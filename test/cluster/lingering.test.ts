import { expect, test } from 'vitest';
import { Lingering } from '../../src/cluster/lingering.ts';
import type { ListenerRow, NodeRecord } from '../../src/cluster/listener-directory.ts';
import { FakeClock } from '../support/fake-clock.ts';

const LINGER_MS = 10_000;

function row(key: string, node = 'b', hybridConnection = 'hyco'): ListenerRow {
  const claim = { key, namespace: 'tests', hybridConnection, listenerId: key, origin: 'ws://x' };
  return { ...claim, node, epoch: '1' };
}
const record: NodeRecord = {
  node: 'b',
  epoch: '1',
  meshAddress: '127.0.0.1:1',
  versions: { min: 1, max: 1 },
  state: 'active',
};

function lingering() {
  const clock = new FakeClock();
  const ended: string[] = [];
  const away = new Set<string>();
  const it = new Lingering({
    clock,
    isAway: node => away.has(node),
    onEnd: rows => ended.push(...rows.map(({ key }) => key)),
  });
  const keys = (hybridConnection = 'hyco'): string[] =>
    [...it.rowsOf('tests', hybridConnection)].map(({ key }) => key);
  return { away, clock, ended, it, keys };
}

test('Lingering keeps the rows and the record of a node for a while, and says what ends then', () => {
  const { clock, ended, it, keys } = lingering();
  it.keepRow(row('1'));
  it.keepRow(row('2'));
  it.keepRow(row('3', 'b', 'other'));
  it.keepNode(record);
  clock.advance(LINGER_MS - 1);
  expect([keys(), keys('other'), it.nodes()]).toEqual([['1', '2'], ['3'], [record]]);
  clock.advance(1);
  expect([keys(), keys('other'), it.nodes()]).toEqual([[], [], []]);
  expect(ended).toEqual(['1', '2', '3']);
});

test('Lingering forgets what the directory has again, and does not end it', () => {
  const { clock, ended, it, keys } = lingering();
  it.keepRow(row('1'));
  it.keepRow(row('2'));
  it.keepNode(record);
  it.nodeIsBack('b');
  it.rowIsBack(row('1'));
  expect([keys(), it.nodes()]).toEqual([['2'], []]);
  clock.advance(LINGER_MS);
  expect(ended).toEqual(['2']);
});

test('Lingering ends a node at once when told, and only that one; later it may linger anew', () => {
  const { clock, ended, it, keys } = lingering();
  it.keepRow(row('1'));
  it.keepRow(row('2', 'c'));
  it.end('b');
  it.end('unknown');
  expect([keys(), ended]).toEqual([['2'], ['1']]);
  it.keepRow(row('3'));
  clock.advance(LINGER_MS);
  expect(ended).toEqual(['1', '2', '3']);
});

test('Lingering keeps a node for as long as it says that the coordinator is away for it', () => {
  const { away, clock, ended, it, keys } = lingering();
  it.keepRow(row('1'));
  away.add('b');
  clock.advance(3 * LINGER_MS);
  expect([keys(), ended]).toEqual([['1'], []]);
  away.delete('b');
  clock.advance(LINGER_MS);
  expect([keys(), ended]).toEqual([[], ['1']]);
});

test('Lingering forgets what its node released, and nothing of another', () => {
  const { it, keys } = lingering();
  it.keepRow(row('1'));
  it.keepRow(row('2'));
  it.keepRow(row('3', 'c'));
  expect(it.released('b', ['1', '3', 'unknown'])).toEqual([row('1')]);
  expect(it.released('unknown', ['2'])).toEqual([]);
  expect(keys()).toEqual(['2', '3']);
});
