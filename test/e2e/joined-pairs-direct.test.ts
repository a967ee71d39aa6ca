// Pairs of one process: what it counts, and forty of it one after another.
import { describe, expect, test } from 'vitest';
import { joinPair, type RawPair } from '../support/azure-clients.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import type { RawWebSocket } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const SIDES = ['sender', 'listener'] as const;
type Side = (typeof SIDES)[number];

/** Who speaks, and who hears it. */
function sidesOf(pair: RawPair, from: Side): { own: RawWebSocket; other: RawWebSocket } {
  return from === 'sender'
    ? { own: pair.sender, other: pair.listener }
    : { own: pair.listener, other: pair.sender };
}

async function untilForgotten(relay: TestRelay): Promise<void> {
  await until('the pair is forgotten', () => relay.server.status().senders === 0);
}

describe.each(DATA_PLANES)('a joined pair on $dataPlane', ({ dataPlane }) => {
  const start = (options = {}): Promise<TestRelay> => startRelay({ dataPlane, ...options });

  // uWebSockets.js cut senders right after their 101, depending on what lay in its heap: see CorkLender.
  test('stays joined, in forty fresh relays', async () => {
    for (let i = 0; i < 40; i += 1) {
      await using relay = await start();
      const { sender, listener } = await joinPair(relay);
      sender.send(`${i}`);
      expect(await listener.nextText()).toBe(`${i}`);
    }
  });

  test.each(SIDES)('tells the other when the %s is lost, and delivers what it said', async from => {
    await using relay = await start();
    for (const leave of ['reset', 'fin'] as const) {
      const { own, other } = sidesOf(await joinPair(relay), from);
      own.send('last words');
      // A reset may overtake what was sent: wait until it has arrived.
      expect(await other.nextText()).toBe('last words');
      if (leave === 'reset') await own.reset();
      else own.fin();
      expect(await other.nextClose()).toMatchObject({ code: 1001 });
      other.fin();
      await other.ended();
      await untilForgotten(relay);
    }
    expect(await relay.metric('halfway_sender_disconnects_total{reason="lost"}')).toBe(2);
  });
});
