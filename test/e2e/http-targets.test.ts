// Paths and queries through real requests. Source: azure-relay-protocol.md sections 1.4, 1.5 and 3.5.
import { describe, expect, test } from 'vitest';
import { listen } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { rawExchange, send } from '../support/http-sender.ts';
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

describe.each(DATA_PLANES)('over %s', dataPlane => {
  describe('queries', () => {
    test('an address-only offer has none of it, the request itself has all of it', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco/x?a=b=c&d=e', {
        method: 'POST',
        headers: { 'Transfer-Encoding': 'chunked' },
        body: 'abc',
      });
      const request = await listener.next();
      listener.answer(request);
      await sent;
      expect(request.requestTarget).toBe('/hyco/x?a=b=c&d=e');
      expect(listener.texts[0]).not.toContain('a=b');
      expect(request.address).toMatch(
        /^ws:\/\/127\.0\.0\.1:\d+\/\$hc\/hyco\/x\?sb-hc-action=request&sb-hc-id=/,
      );
    });

    test('the sender’s own tracking id becomes the id, when it is a UUID', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const uuid = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11';
      const sent = send(relay, `/hyco?sb-hc-id=${uuid}_G3`);
      const request = await listener.next();
      listener.answer(request);
      await sent;
      expect(request.id.startsWith(uuid)).toBe(true);
      // A secret of ours follows, or whoever chose the id could dial the address.
      expect(request.id.length).toBeGreaterThan(uuid.length + 20);
      expect(request.address).toContain(request.id);

      const other = send(relay, '/hyco?sb-hc-id=not-a-uuid');
      const second = await listener.next();
      listener.answer(second);
      await other;
      expect(second.id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}/);
      expect(second.id).not.toContain('not-a-uuid');
    });
  });

  describe('paths', () => {
    test.each([
      ['/hyco', '/hyco'],
      ['/hyco/', '/hyco/'],
      ['/HYCO/a/B', '/HYCO/a/B'],
      ['/hyco/a%20b', '/hyco/a b'],
      ['/hyco/%C3%B8', '/hyco/ø'],
      ['/hyco/a%3Fb%23c%25d', '/hyco/a%3Fb%23c%25d'],
      ['/hyco//x///y', '/hyco//x///y'],
      ["/hyco/a;v=1/b:c@d!$&'()*+,=", "/hyco/a;v=1/b:c@d!$&'()*+,="],
    ])('%s reaches the listener as %s', async (target, seen) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: request.requestTarget }));
      const text = Buffer.from(await get(relay, target), 'latin1').toString();
      expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
      expect(text.split('\r\n\r\n')[1]).toBe(seen);
    });

    test('the longest name that is a prefix by segments has the request', async () => {
      await using relay = await startRelay({ dataPlane });
      await using short = await listen(relay, { path: 'a' });
      await using long = await listen(relay, { path: 'a/b' });
      short.serve(() => ({ body: 'a' }));
      long.serve(() => ({ body: 'a/b' }));
      for (const [path, taken] of [
        ['/a', 'a'],
        ['/a/bc', 'a'],
        ['/A/B', 'a/b'],
        ['/a/b/c', 'a/b'],
      ] as const) {
        expect((await send(relay, path)).body.toString(), path).toBe(taken);
      }
    });

    test.each([
      '/',
      '/hycox',
      '/nothing/here',
      '/hyco/../hyco',
      '/hyco/%2e%2e/x',
      '/hyco/a%2Fb',
      '/hyco/a%5cb',
      '/hyco/%00',
      '/hyco/%0d%0aX:1',
      '/hyco/%zz',
      '/hyco/%ff',
      '/hyco\\x',
      `/hyco/${'x'.repeat(9_000)}`,
    ])('%s does not exist: 404 with the documented text and JSON', async target => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const text = await get(relay, target);
      expect(text).toMatch(/^HTTP\/1.1 404 Endpoint does not exist.* TrackingId:[\da-f-]{36}, /);
      const body: unknown = JSON.parse(text.split('\r\n\r\n')[1] ?? '');
      expect(body).toMatchObject({
        error: { code: 3, message: expect.stringMatching(/^Endpoint does not exist/) },
      });
      expect(text).not.toMatch(/\r\nvia:/i);
      expect(listener.requests.size).toBe(0);
    });

    test('encoded slashes pass where the operator lets them', async () => {
      await using relay = await startRelay({ dataPlane, encodedSlashes: 'pass' });
      await using listener = await listen(relay, { path: 'a/b' });
      listener.serve(request => ({ body: request.requestTarget }));
      expect((await send(relay, '/a%2Fb/c')).body.toString()).toBe('/a%2Fb/c');
    });

    test('paths that begin with $ are the relay’s own', async () => {
      await using relay = await startRelay({ dataPlane });
      const cases = [
        ['/$hc/hyco', 400, /^This endpoint is only for web-socket requests\. /],
        [
          '/$HC/hyco?sb-hc-action=connect',
          400,
          /^This endpoint is only for web-socket requests\. /,
        ],
        ['/$none', 404, /^Endpoint does not exist\. /],
        ['/%24none', 404, /^Endpoint does not exist\. /],
        ['/%24hc/hyco', 400, /^This endpoint is only for web-socket requests\. /],
      ] as const;
      for (const [path, status, phrase] of cases) {
        const answer = await send(relay, path);
        expect(answer.status, path).toBe(status);
        expect(answer.phrase, path).toMatch(phrase);
      }
      expect((await send(relay, '/$healthz', { token: null })).status).toBe(200);
    });
  });

  describe('Host', () => {
    test.each([
      ['missing', 'GET /hyco HTTP/1.1\r\n', 400],
      ['malformed', 'GET /hyco HTTP/1.1\r\nHost: a b\r\n', 400],
      ['with a slash', 'GET /hyco HTTP/1.1\r\nHost: a/b\r\n', 400],
      ['of HTTP/1.0', 'GET /hyco HTTP/1.0\r\nHost: a\r\n', 505],
    ])('%s is refused', async (_, head, status) => {
      await using relay = await startRelay({ dataPlane });
      const text = await rawExchange(relay, `${head}Connection: close\r\n\r\n`);
      expect(Number(text.slice(9, 12))).toBe(status);
    });
  });

  test('an upgrade outside /$hc/ is refused', async () => {
    await using relay = await startRelay({ dataPlane });
    await using listener = await listen(relay);
    const answer = await send(relay, '/hyco', {
      headers: { Connection: 'Upgrade', Upgrade: 'h2c' },
    });
    expect(answer.status).toBe(400);
    expect(answer.phrase).toMatch(/^Web-socket requests must use a path that begins with \/\$hc\//);
    expect(listener.requests.size).toBe(0);
  });
});
