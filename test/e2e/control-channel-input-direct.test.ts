// A listener that reads nothing: a balancer reads for it, for a while.
import { expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startRelay } from '../support/relay.ts';

test('a listener that reads nothing is passed over once its queue is full', async () => {
  await using relay = await startRelay({ controlQueueBytesMax: 65_536 });
  const slow = await openListener(relay);
  slow.control.pause();
  // Until the buffers of the system and then ours are full, and the relay says so.
  const diallings: ReturnType<typeof dialSender>[] = [];
  let refused = 0;
  while (refused === 0 && diallings.length < 4_000) {
    const batch = Array.from({ length: 50 }, () =>
      dialSender(relay, 'hyco', {
        headers: Array.from({ length: 10 }, (_, i) => [`X-${i}`, 'x'.repeat(2_000)] as const),
      }),
    );
    diallings.push(...batch);
    await fetch(`${relay.httpUrl}/$healthz`);
    refused = await relay.metric('halfway_refusals_total{reason="overloaded",role="sender"}');
  }
  expect(refused).toBeGreaterThan(0);

  const quick = await openListener(relay);
  const dialling = dialSender(relay);
  await quick.acceptNext();
  expect((await dialling.answer).status).toBe(101);
  await Promise.all(diallings.map(one => one.abandon()));
});
