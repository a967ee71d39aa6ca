import { expect, test } from 'vitest';
import { dialListener, openListener } from '../support/azure-clients.ts';
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
  // In a cluster its place is given back a moment later.
  await until('there is room', async () => (await dialListener(relay).answer).status === 101);
});

test('thirty listeners at once: 25 are in', async () => {
  await using relay = await startRelay();
  const answers = await Promise.all(Array.from({ length: 30 }, () => dialListener(relay).answer));
  expect(answers.filter(({ status }) => status === 101)).toHaveLength(25);
  expect(answers.filter(({ status }) => status === 403)).toHaveLength(5);
  expect(relay.server.status().listeners).toBe(25);
});
