// Pairs of one process: what it counts, forty of it one after another, and what reaches who is cut in the middle of writing.
import { randomBytes } from 'node:crypto';
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

describe.each(DATA_PLANES)('a joined pair on $dataPlane', ({ dataPlane, promises }) => {
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

  if (!promises.has('back-pressure')) {
    test('tells who writes more than the queue holds 1011, while it still writes', async () => {
      await using relay = await start({ fallbackQueueBytesMax: 100_000 });
      const { sender, listener } = await joinPair(relay);
      listener.pause();
      for (let i = 0; i < 300; i += 1) sender.send(randomBytes(60_000));
      expect(await sender.nextClose()).toMatchObject({ code: 1011 });
      // What comes behind it is read and thrown away: a reset could take the Close with it.
      await sender.flushed();
    });
  }
});
