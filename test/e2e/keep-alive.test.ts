// These wait for uWebSockets.js's own clock, which ticks every four seconds.
import { expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { open } from '../support/raw-websocket.ts';
import { startRelay } from '../support/relay.ts';

const SHORTEST = { keepAliveMs: 8_000 };

test.concurrent('a silent listener is pinged, and cut when it does not answer', async () => {
  await using relay = await startRelay(SHORTEST);
  const { control } = await openListener(relay);
  expect((await control.nextFrame(14_000)).opcode).toBe(OPCODES.ping);
  await control.ended(14_000);
  expect(relay.server.status().listeners).toBe(0);
  expect(await relay.metric('halfway_listener_disconnects_total{reason="lost"}')).toBe(1);
});

test.concurrent('a listener that answers pings stays, and so does a sender that waits', async () => {
  await using relay = await startRelay(SHORTEST);
  const listener = await openListener(relay);
  const dialling = dialSender(relay);
  const { address } = await listener.nextAccept();
  for (let i = 0; i < 2; i += 1) {
    const { opcode, payload } = await listener.control.nextFrame(14_000);
    expect(opcode).toBe(OPCODES.ping);
    listener.control.send(payload, { opcode: OPCODES.pong });
  }
  // Longer than uWebSockets.js gives an HTTP request.
  await open(address);
  expect((await dialling.answer).status).toBe(101);
  expect(relay.server.status().listeners).toBe(1);
});
