// How an answer breaks off, which a balancer tells in words of its own.
import { describe, expect, test } from 'vitest';
import { listen, responseText } from '../support/http-listener.ts';
import { pattern, send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

/**
 * What the fallback does not promise, for uWebSockets.js shows it whole messages only and cannot stop a WebSocket from
 * being read:
 *
 * - a streamed answer arrives when it is whole, not event by event;
 * - an answer by rendezvous that never ends its message (Java) loses its body;
 * - an answer larger than `fallbackMessageBytesMax` breaks;
 * - an answer that its sender takes too slowly breaks, over `fallbackQueueBytesMax`;
 * - request bodies slower than 16 KiB in 10 s and readers that stand still for 10 s are cut;
 * - the sender's port is 0 in `remoteEndpoint`.
 */
describe('the fallback over whole messages', () => {
  test('breaks the sender’s connection when an answer is larger than a message may be', async () => {
    await using relay = await startRelay({
      dataPlane: 'messages',
      fallbackMessageBytesMax: 100_000,
    });
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    const rendezvous = await listener.dial(request.address);
    rendezvous.send(responseText(request.id, { body: '' }));
    rendezvous.send(pattern(200_000));
    await expect(sent).rejects.toThrow(/socket hang up|aborted|ECONNRESET/);
  });
});
