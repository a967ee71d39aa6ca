// Targets that a balancer refuses itself.
import { describe, expect, test } from 'vitest';
import relayQueries from '../fixtures/relay-queries.json' with { type: 'json' };
import { listen } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { rawExchange } from '../support/http-sender.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

/** Sends a target byte for byte; HTTP clients would tidy it up. */
async function get(relay: TestRelay, target: string): Promise<string> {
  const lines = [
    `GET ${target} HTTP/1.1`,
    'Host: 127.0.0.1',
    `ServiceBusAuthorization: ${relay.token('')}`,
    'Connection: close',
  ];
  return rawExchange(relay, `${lines.join('\r\n')}\r\n\r\n`);
}

function utf8AsLatin1(text: string): string {
  return Buffer.from(text).toString('latin1');
}

describe.each(DATA_PLANES)('over %s', dataPlane => {
  describe('queries', () => {
    test('every vector of the reference reaches the listener as it should', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: request.requestTarget }));
      const vectors = relayQueries.filter(({ sent }) => !/token/i.test(sent));
      expect(vectors.length).toBeGreaterThan(25);
      for (const { name, sent, seen } of vectors) {
        const target = `/hyco${sent === '' ? '' : `?${utf8AsLatin1(sent)}`}`;
        const body = (await get(relay, target)).split('\r\n\r\n')[1];
        expect(body, name).toBe(seen === '' ? '/hyco' : `/hyco?${seen}`);
      }
    });
  });

  describe('paths', () => {
    test.each(['http://127.0.0.1/hyco', '*', 'hyco'])(
      '%s, which does not begin with a slash, is refused by uWebSockets.js itself',
      async target => {
        await using relay = await startRelay({ dataPlane });
        expect(await get(relay, target)).toMatch(/^HTTP\/1.1 505 /);
      },
    );
  });
});
