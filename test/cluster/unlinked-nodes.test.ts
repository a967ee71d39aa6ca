import { expect, test } from 'vitest';
import { UnlinkedNodes } from '../../src/cluster/unlinked-nodes.ts';
import { FakeClock } from '../support/fake-clock.ts';

test('UnlinkedNodes names nodes that have been without a link for a while', () => {
  const clock = new FakeClock();
  const unlinked = new UnlinkedNodes(clock);
  unlinked.joined('b');
  unlinked.joined('a');
  unlinked.joined('c');
  clock.advance(4_999);
  expect(unlinked.names()).toEqual([]);
  unlinked.linked('c');
  // Hearing of it again does not start its time anew.
  unlinked.joined('a');
  clock.advance(1);
  expect(unlinked.names()).toEqual(['a', 'b']);
  unlinked.gone('a');
  unlinked.linked('b');
  expect(unlinked.names()).toEqual([]);
});
