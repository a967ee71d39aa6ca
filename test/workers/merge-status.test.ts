import { expect, test } from 'vitest';
import type { ClusterNode, StatusReport } from '../../src/transports/status-report.ts';
import { mergeStatus } from '../../src/workers/merge-status.ts';

const FIRST = { node: 'box', version: '1', uptimeSeconds: 9, ready: true, reasons: [] };

function aNode(node: string, link: ClusterNode['link'], roundTripMs?: number): ClusterNode {
  return {
    node,
    state: 'active',
    meshAddress: '127.0.0.1:1',
    meshVersions: '1-1',
    listeners: 2,
    link,
    ...(roundTripMs === undefined ? {} : { roundTripMs }),
  };
}

function aReport(here: number, nodes: readonly ClusterNode[]): StatusReport {
  return {
    ...FIRST,
    dataPlane: 'native',
    listeners: here,
    senders: 2,
    waitingSenders: 1,
    hybridConnections: [
      {
        namespace: 'n',
        name: here === 3 ? 'Orders' : 'orders',
        listeners: here,
        pairs: 1,
        requests: 0,
        bytesToListener: 10,
        bytesToSender: 20,
      },
    ],
    cluster: {
      coordinator: 'parent',
      coordinatorUp: here === 3,
      degraded: ['catching-up'],
      warnings: [],
      nodes,
      listenersHere: here,
      // Ten in all.
      listenersElsewhere: 10 - here,
      listenersUnwritten: 1,
      feedLagChanges: here,
    },
  };
}

test('adds up what several processes hold, and takes the worst of what they see', () => {
  const merged = mergeStatus(FIRST, [
    aReport(3, [aNode('a', 'self'), aNode('b', 'up', 2), aNode('c', 'up', 1)]),
    aReport(4, [aNode('a', 'up', 3), aNode('b', 'self'), aNode('c', 'apart')]),
  ]);
  expect(merged).toMatchObject({
    ...FIRST,
    dataPlane: 'native',
    listeners: 7,
    senders: 4,
    waitingSenders: 2,
    hybridConnections: [
      { name: 'Orders', listeners: 7, pairs: 2, bytesToListener: 20, bytesToSender: 40 },
    ],
    cluster: {
      coordinatorUp: false,
      degraded: ['catching-up'],
      nodes: [aNode('a', 'up', 3), aNode('b', 'up', 2), aNode('c', 'apart')],
      listenersHere: 7,
      listenersElsewhere: 3,
      listenersUnwritten: 2,
      feedLagChanges: 4,
    },
  });
});

test('without an answer of anybody there is no cluster', () => {
  expect(mergeStatus(FIRST, [])).toEqual({
    ...FIRST,
    dataPlane: '',
    listeners: 0,
    senders: 0,
    waitingSenders: 0,
    hybridConnections: [],
  });
});
