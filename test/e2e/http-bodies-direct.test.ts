// Bodies that a balancer refuses itself.
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { rawExchange, send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

describe.each(DATA_PLANES)('over %s', dataPlane => {
  describe('request bodies', () => {
    test('whose length is not a number are refused, and the relay lives', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const head = `POST /hyco HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nServiceBusAuthorization: ${relay.token()}\r\n`;
      for (const headers of [
        'Content-Length: \r\n',
        'Content-Length: abc\r\n',
        'Content-Length: -1\r\n',
        'Content-Length: 1e3\r\n',
        'Content-Length: 99999999999999999999999\r\n',
        'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n',
        'Transfer-Encoding: chunked\r\nContent-Length: 3\r\n',
        'Content-Length: 3\r\nContent-Length: 4\r\n',
        'Transfer-Encoding: gzip\r\n',
        'Transfer-Encoding: gzip, chunked\r\n',
        'Transfer-Encoding: \r\n',
      ]) {
        const text = await rawExchange(relay, `${head}${headers}\r\nabc`);
        expect(text, headers).toMatch(/^HTTP\/1.1 400 /);
      }
      expect(listener.requests.size).toBe(0);
      listener.serve(() => ({ body: 'alive' }));
      expect((await send(relay, '/hyco')).body.toString()).toBe('alive');
    });
  });
});
