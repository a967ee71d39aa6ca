import { expect, test } from 'vitest';
import { startRelay } from '../support/relay.ts';

test('a fresh relay is alive, ready and tells so on both ports', async () => {
  await using relay = await startRelay();
  for (const url of [`${relay.adminUrl}/`, `${relay.httpUrl}/$`]) {
    expect(await (await fetch(`${url}healthz`)).json()).toEqual({ status: 'alive' });
    expect(await (await fetch(`${url}readyz`)).json()).toMatchObject({ status: 'ready' });
  }
});

test('a request without a token is refused with the documented text, and counted', async () => {
  await using relay = await startRelay();
  const answer = await fetch(`${relay.httpUrl}/hyco/x`);
  expect(answer.status).toBe(401);
  expect(answer.statusText).toMatch(/^MissingToken: .+ TrackingId:[\da-f-]{36}, SystemTracker:/);
  expect(answer.headers.get('via')).toBeNull();
  expect(await relay.metric('halfway_refusals_total{reason="token-missing",role="http"}')).toBe(1);
});
