import { expect, test } from 'vitest';
import { RemoteListener } from '../../src/cluster/remote-listener.ts';
import type { Pending } from '../../src/relay/ports.ts';
import { pendingOffer } from '../support/relay-doubles.ts';

const ROW = { key: 'k', node: 'node-b', listenerId: 'l', origin: 'wss://relay.example.com' };

function stage() {
  const fates: string[] = [];
  const settled: string[] = [];
  const listener = new RemoteListener(ROW, {
    send: () => true,
    settle: id => void settled.push(id),
  });
  const pending: Pending = {
    ...pendingOffer(() => fates.push('lost')),
    notTaken: () => void fates.push('not taken'),
  };
  listener.offer(pending, 'accept');
  return { listener, pending, fates, settled };
}

test('lostAll() is followed by word that the listener never saw it: that counts still', () => {
  const { listener, pending, fates, settled } = stage();
  listener.lostAll();
  listener.refused(pending.id);
  expect(fates).toEqual(['lost', 'not taken']);
  listener.settled(pending);
  expect([listener.outstanding, settled]).toEqual([0, []]);
});

test('settled() forgets what was lost, here and at the other node', () => {
  const { listener, pending, fates, settled } = stage();
  listener.lostAll();
  listener.settled(pending);
  expect([fates, listener.outstanding, settled]).toEqual([['lost'], 0, [pending.id]]);
  listener.refused(pending.id);
  expect(fates).toEqual(['lost']);
});
