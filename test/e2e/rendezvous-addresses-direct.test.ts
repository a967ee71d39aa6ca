// What one process counts of addresses.
import { describe, expect, test } from 'vitest';
import { dialSender, onlyListener } from '../support/azure-clients.ts';
import { dial, open } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

const UNKNOWN = 'halfway_refusals_total{reason="address-unknown",role="rendezvous"}';

async function waitingSender(relay: TestRelay) {
  const control = await onlyListener(relay);
  const dialling = dialSender(relay);
  const { address, id } = await control.nextAccept();
  return { dialling, address, id };
}

describe('an accept address', () => {
  test('works once, and a second dial disturbs nobody', async () => {
    await using relay = await startRelay();
    const { dialling, address } = await waitingSender(relay);
    const listener = await open(address);
    const { socket: sender } = await dialling.answer;
    const again = await dial(address).answer;
    expect(again.status).toBe(403);
    expect(again.reason).toMatch(/^Unknown Connection ID: /);
    sender?.send('hello');
    expect(await listener.nextText()).toBe('hello');
    expect(await relay.metric(UNKNOWN)).toBe(1);
  });
});
