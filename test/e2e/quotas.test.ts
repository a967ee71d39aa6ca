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

test('the 26th listener is refused with 403, until one of the others has gone', async () => {
  await using relay = await startRelay();
  const listeners = [];
  for (let i = 0; i < 25; i += 1) listeners.push(await openListener(relay));
  const refused = await dialListener(relay).answer;
  expect(refused.status).toBe(403);
  expect(refused.reason).toMatch(/MaximumListenersPerEndpoint/);
  expect(await relay.metric('halfway_refusals_total{reason="listeners-max",role="listener"}')).toBe(
    1,
  );
  // Other hybrid connections have quotas of their own.
  await openListener(relay, 'open');
  listeners[0]?.control.sendClose(1000);
  await listeners[0]?.control.ended();
  expect((await dialListener(relay).answer).status).toBe(101);
});

test('thirty listeners at once: 25 are in', async () => {
  await using relay = await startRelay();
  const answers = await Promise.all(Array.from({ length: 30 }, () => dialListener(relay).answer));
  expect(answers.filter(({ status }) => status === 101)).toHaveLength(25);
  expect(answers.filter(({ status }) => status === 403)).toHaveLength(5);
  expect(relay.server.status().listeners).toBe(25);
});

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
