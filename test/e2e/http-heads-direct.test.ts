// Heads as the relay’s own port has them: a balancer refuses some itself, spells names its way, and adds its own.
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { rawExchange, rawRequest, send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

describe.each(DATA_PLANES)('over %s', dataPlane => {
  describe('methods', () => {
    test('CONNECT is refused and reaches no listener', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const text = await rawExchange(relay, rawRequest(relay, 'CONNECT /hyco HTTP/1.1'));
      expect(text).toMatch(/^HTTP\/1.1 405 The method is not relayed\. TrackingId:/);
      expect(listener.requests.size).toBe(0);
    });
  });

  describe('request headers', () => {
    test('cross under the names that clients look up, but for those of the hop', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = rawExchange(
        relay,
        rawRequest(relay, 'GET /hyco HTTP/1.1', [
          'accept: text/plain',
          'CONTENT-TYPE: text/x-own',
          'user-agent: own/1.0',
          'x-custom-thing:   kept  ',
          'te: trailers',
          'trailer: X-Later',
          'keep-alive: timeout=5',
          'proxy-connection: keep-alive',
          'x-hop: gone',
          'close: x',
          'connection: close',
          'connection: X-Hop, Host',
          'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
          'content-length: 0',
        ]),
      );
      const request = await listener.next();
      listener.answer(request);
      expect(await sent).toMatch(/^HTTP\/1.1 200 OK/);
      expect(request.hasBody).toBe(false);
      expect(request.requestHeaders).toEqual({
        Accept: 'text/plain',
        'Content-Type': 'text/x-own',
        'User-Agent': 'own/1.0',
        'X-Custom-Thing': 'kept',
        Host: '127.0.0.1',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        Via: '1.1 127.0.0.1',
      });
      expect(request.remoteEndpoint?.address).toBe('127.0.0.1');
    });

    test('larger than uWebSockets.js takes are refused with 431, and the relay lives', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const text = await rawExchange(
        relay,
        rawRequest(relay, 'GET /hyco HTTP/1.1', [`X-Long: ${'v'.repeat(70_000)}`]),
      );
      expect(text).toMatch(/^HTTP\/1.1 431 /);
      listener.serve(() => ({ body: 'alive' }));
      expect((await send(relay, '/hyco')).body.toString()).toBe('alive');
    });
  });

  describe('response headers', () => {
    test('reach the sender with Via, without what describes the listener’s own framing', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(() => ({
        headers: {
          'X-Own': 'kept',
          'content-type': 'text/x-own',
          'Transfer-Encoding': 'chunked',
          'Content-Length': '999',
          Connection: 'X-Hop, keep-alive',
          'Keep-Alive': 'timeout=1',
          'X-Hop': 'gone',
          Upgrade: 'h2c',
          Trailer: 'X-Later',
          Via: '1.1 origin',
        },
        body: 'four',
      }));
      const answer = await send(relay, '/hyco');
      const names = answer.rawHeaders.map(([name]) => name);
      expect(names).toEqual(['X-Own', 'content-type', 'Via', 'Date', 'Content-Length']);
      expect(answer.headers).toMatchObject({
        'x-own': 'kept',
        'content-type': 'text/x-own',
        'content-length': '4',
        via: `1.1 origin, 1.1 127.0.0.1:${relay.port}`,
      });
      expect(answer.body.toString()).toBe('four');
    });
  });
});
