// What one process counts of rejections.
import { expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { dial } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';

test('one rejection settles it: the address is worth nothing afterwards', async () => {
  await using relay = await startRelay();
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  const { address } = await control.nextAccept();
  await dial(`${address}&sb-hc-statusCode=403`).answer;
  await dialling.answer;
  expect((await dial(address).answer).status).toBe(403);
  expect((await dial(`${address}&sb-hc-statusCode=403`).answer).status).toBe(403);
  expect(
    await relay.metric('halfway_refusals_total{reason="address-unknown",role="rendezvous"}'),
  ).toBe(2);
});
