// Limits that each process has for itself.
import { expect, test } from 'vitest';
import {
  dialListener,
  dialSender,
  joinPair,
  onlyListener,
  openListener,
} from '../support/azure-clients.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

test('a sender over the limit gets 503, and comes in when another has left', async () => {
  await using relay = await startRelay({ sendersMax: 2 });
  const joined = await joinPair(relay);
  const control = await onlyListener(relay);
  const waiting = dialSender(relay);
  await control.nextAccept();
  const refused = await dialSender(relay).answer;
  expect(refused.status).toBe(503);
  expect(refused.reason).toMatch(/^QuotaExceeded: /);
  expect(await relay.metric('halfway_refusals_total{reason="senders-max",role="sender"}')).toBe(1);

  await waiting.abandon();
  await until('the waiting one is forgotten', () => relay.server.status().senders === 1);
  const next = dialSender(relay);
  await control.acceptNext();
  expect((await next.answer).status).toBe(101);

  await joined.sender.reset();
  joined.listener.fin();
  await until('the joined one is forgotten', () => relay.server.status().senders === 1);
});

test('hybrid connections come into being only where the operator wants it, and only so many', async () => {
  await using relay = await startRelay({ autoCreate: true, hybridConnectionsMax: 6 });
  const token = relay.token('');
  await openListener(relay, 'new/one', { token });
  await openListener(relay, 'New/One', { token });
  expect(relay.server.status().hybridConnections.map(({ name }) => name)).toContain('new/one');
  await openListener(relay, 'second', { token });
  expect((await dialListener(relay, 'third', { token }).answer).status).toBe(404);
  // Senders create nothing.
  expect((await dialSender(relay, 'fourth', { token }).answer).status).toBe(404);
  expect(await relay.metric('halfway_hybrid_connections')).toBe(6);
});
