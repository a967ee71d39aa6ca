// Answers as the .NET and Java libraries send them, and how the fallback over whole messages takes them.
import { describe, expect, test } from 'vitest';
import {
  answerLikeDotNet,
  answerLikeJava,
  LATE,
  type Writes,
} from '../support/http-library-listeners.ts';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { pattern, send, sha256 } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

const LARGE = [pattern(40_000, 1), pattern(40_000, 2), pattern(40_000, 3)];
const WRITES: readonly (readonly [string, Writes])[] = [
  ['none', []],
  ['one small', ['small']],
  ['several small', ['a', 'b', 'c']],
  ['65,536 bytes', [pattern(65_536)]],
  ['65,537 bytes', [pattern(65_537)]],
  ['several large', LARGE],
  ['some late', ['a', LATE, 'b']],
];

function whole(writes: Writes): Buffer {
  return Buffer.concat(writes.filter(write => write !== LATE).map(write => Buffer.from(write)));
}

describe.each(DATA_PLANES)('over %s, a listener like .NET', dataPlane => {
  test.each(WRITES)('answers with writes: %s', async (_, writes) => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    for (const body of [undefined, 'small', pattern(100_000)]) {
      const sent = send(relay, '/hyco', body === undefined ? {} : { method: 'POST', body });
      const end = await answerLikeDotNet(listener, await listener.next(), writes);
      const answer = await sent;
      expect(answer.status).toBe(200);
      expect(sha256(answer.body)).toBe(sha256(whole(writes)));
      // The library waits for the relay's own Close.
      if (end !== undefined) expect(end.closeCode).toBe(1000);
    }
  });

  test('whose handler threw gives its own 500, with Via', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const phrase =
      'The listener RequestHandler threw an exception. See listener logs for more details. TrackingId:x, Address:{sb://h}, Timestamp:y';
    listener.serve(() => ({ status: 500, phrase }));
    const answer = await send(relay, '/hyco');
    expect(answer).toMatchObject({ status: 500, phrase });
    expect(answer.headers).toHaveProperty('via');
  });

  test('joins repeated headers with commas: cookies come apart again', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    listener.serve(() => ({
      headers: {
        'Set-Cookie': 'a=1; path=/,b=2; expires=Thu, 01 Jan 2037 00:00:00 GMT',
        'X-R': '1,2',
      },
    }));
    const { headers } = await send(relay, '/hyco');
    expect(headers['set-cookie']).toEqual([
      'a=1; path=/',
      'b=2; expires=Thu, 01 Jan 2037 00:00:00 GMT',
    ]);
    expect(headers['x-r']).toBe('1,2');
  });
});

describe.each(DATA_PLANES.filter(plane => plane === 'native'))(
  'over %s, a listener like Java',
  dataPlane => {
    test.each(WRITES)('answers with writes: %s', async (_, writes) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      for (const body of [undefined, 'small', pattern(100_000)]) {
        const sent = send(relay, '/hyco', body === undefined ? {} : { method: 'POST', body });
        await answerLikeJava(listener, await listener.next(), writes);
        const answer = await sent;
        expect(answer.status).toBe(200);
        expect(sha256(answer.body)).toBe(sha256(whole(writes)));
      }
    });

    test('is never given a request without a body by rendezvous', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const headers = Object.fromEntries(
        Array.from({ length: 34 }, (_, i) => [`X-Quotes-${i}`, '"'.repeat(1_000)]),
      );
      for (const options of [
        { headers },
        { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } },
      ]) {
        const sent = send(relay, '/hyco', options);
        const request = await listener.next();
        expect(request.isByRendezvous).toBe(true);
        await answerLikeJava(listener, request, ['alive']);
        expect((await sent).body.toString()).toBe('alive');
      }
    });
  },
);

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
  test('gathers an answer until it is whole', async () => {
    await using relay = await startRelay({ dataPlane: 'messages' });
    await using listener = await listen(relay);
    const sent = send(relay, '/hyco');
    const request = await listener.next();
    expect(request.remoteEndpoint).toEqual({ address: '127.0.0.1', port: 0 });
    const rendezvous = await listener.dial(request.address);
    const closed = closeOf(rendezvous);
    rendezvous.send(responseText(request.id, { body: '' }));
    for (const part of ['a', 'b', 'c']) rendezvous.send(Buffer.from(part), { fin: false });
    rendezvous.send('', { fin: true, binary: true });
    expect((await sent).body.toString()).toBe('abc');
    expect((await closed).code).toBe(1000);
  });
});
