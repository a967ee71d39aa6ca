// Methods, headers, statuses and reason phrases, both ways. Source: azure-relay-protocol.md sections 3.5 and 3.6.
import { describe, expect, test } from 'vitest';
import { listen, responseText } from '../support/http-listener.ts';
import { DATA_PLANES } from '../support/http-planes.ts';
import { rawExchange, rawRequest, send } from '../support/http-sender.ts';
import { startRelay } from '../support/relay.ts';

const METHODS =
  'GET POST PUT PATCH DELETE OPTIONS TRACE PROPFIND REPORT SEARCH PURGE M-SEARCH QUERY'.split(' ');

describe.each(DATA_PLANES)('over %s', dataPlane => {
  describe('methods', () => {
    test.each(METHODS)('%s reaches the listener, and the answer its sender', async method => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: request.method }));
      const line = `${method} /hyco HTTP/1.1`;
      const text = await rawExchange(relay, rawRequest(relay, line, ['Connection: close']));
      expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
      expect(text.endsWith(`\r\n\r\n${method}`)).toBe(true);
    });

    test('a method of its own keeps its letter case', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(request => ({ body: request.method }));
      const text = await rawExchange(
        relay,
        rawRequest(relay, 'fOo-9 /hyco HTTP/1.1', ['Connection: close']),
      );
      expect(text).toMatch(/\r\n\r\nfOo-9$/);
    });

    test('OPTIONS of a browser is the listener’s to answer', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay, { path: 'open' });
      listener.serve(request => ({
        status: 204,
        headers: {
          'Access-Control-Allow-Origin': request.requestHeaders['Origin'] ?? '',
          'Access-Control-Allow-Methods':
            request.requestHeaders['Access-Control-Request-Method'] ?? '',
        },
      }));
      const answer = await send(relay, '/open/x', {
        method: 'OPTIONS',
        token: null,
        headers: { Origin: 'https://app.example.org', 'Access-Control-Request-Method': 'PUT' },
      });
      expect(answer).toMatchObject({ status: 204, phrase: 'No Content' });
      expect(answer.headers).toMatchObject({
        'access-control-allow-origin': 'https://app.example.org',
        'access-control-allow-methods': 'PUT',
      });
    });
  });

  describe('request headers', () => {
    test('Via is appended to the one that is there', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco', { headers: { Via: '1.0 fred, 1.1 proxy.example' } });
      const request = await listener.next();
      listener.answer(request);
      await sent;
      expect(request.requestHeaders['Via']).toBe(
        `1.0 fred, 1.1 proxy.example, 1.1 127.0.0.1:${relay.port}`,
      );
    });

    test('repeated ones become one, cookies joined as cookies are', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const headers = ['X-R: requestValue1', 'X-R: requestValue2', 'Cookie: a=1', 'Cookie: b=2'];
      const text = rawExchange(
        relay,
        rawRequest(relay, 'GET /hyco HTTP/1.1', [...headers, 'Connection: close']),
      );
      const request = await listener.next();
      listener.answer(request);
      await text;
      expect(request.requestHeaders).toMatchObject({
        'X-R': 'requestValue1, requestValue2',
        Cookie: 'a=1; b=2',
      });
    });

    test('32 kB of them cross, to a listener that can read the message', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const value = 'v'.repeat(1_000);
      const headers = Object.fromEntries(
        Array.from({ length: 32 }, (_, i) => [`X-Long-${i}`, `${i}${value}`]),
      );
      const sent = send(relay, '/hyco', { headers });
      const request = await listener.next();
      listener.answer(request, { headers, body: '' });
      const answer = await sent;
      for (const [name, long] of Object.entries(headers)) {
        expect(request.requestHeaders[name]).toBe(long);
        expect(answer.headers[name.toLowerCase()]).toBe(long);
      }
    });

    test('whose JSON exceeds what .NET reads send the request by rendezvous, always with a body', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      // Each quote takes two characters in JSON.
      const headers = Object.fromEntries(
        Array.from({ length: 34 }, (_, i) => [`X-Quotes-${i}`, '"'.repeat(1_000)]),
      );
      const sent = send(relay, '/hyco', { headers });
      const request = await listener.next();
      expect(request).toMatchObject({ isByRendezvous: true, hasBody: true, method: 'GET' });
      expect(request.body.length).toBe(0);
      expect(request.requestHeaders['X-Quotes-33']).toBe('"'.repeat(1_000));
      expect(listener.texts).toEqual([JSON.stringify({ request: { address: request.address } })]);
      listener.answer(request, { body: 'got it' });
      expect((await sent).body.toString()).toBe('got it');
    });
  });

  describe('response headers', () => {
    test('have one Date, whatever the listener says', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(() => ({ headers: { date: 'Tue, 15 Nov 1994 08:12:31 GMT' }, body: 'x' }));
      const answer = await send(relay, '/hyco');
      expect(answer.rawHeaders.filter(([name]) => name.toLowerCase() === 'date')).toHaveLength(1);
    });

    test('several cookies stay several, from an array and from one joined text', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const cookies = ['a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT', 'b=2; Path=/', 'c=x,y'];
      listener.serve(request => ({
        headers: {
          'Set-Cookie': request.requestTarget.endsWith('one') ? cookies.join(',') : cookies,
        },
      }));
      for (const path of ['/hyco/array', '/hyco/one']) {
        expect((await send(relay, path)).headers['set-cookie']).toEqual(cookies);
      }
    });

    test('may be numbers, arrays and booleans; null and objects are left out', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const { id } = await listener.next();
      listener.control.send(
        JSON.stringify({
          response: {
            requestId: id,
            statusCode: '201',
            statusDescription: null,
            responseHeaders: { 'X-N': 7, 'X-A': ['1', 2], 'X-B': true, 'X-Null': null, 'X-O': {} },
          },
        }),
      );
      const answer = await sent;
      expect(answer).toMatchObject({ status: 201, phrase: 'Created' });
      expect(answer.headers).toMatchObject({ 'x-n': '7', 'x-a': '1, 2', 'x-b': 'true' });
      expect(answer.headers).not.toHaveProperty('x-null');
      expect(answer.headers).not.toHaveProperty('x-o');
    });

    test.each([
      ['a line break in a value', { 'X-Bad': 'a\r\nSet-Cookie: stolen=1' }],
      ['a lone line feed in a value', { 'X-Bad': 'a\nb' }],
      ['a NUL in a value', { 'X-Bad': 'a\0b' }],
      ['a line break in a name', { 'X-Bad\r\nX-Worse': 'a' }],
      ['a space in a name', { 'X Bad': 'a' }],
      ['an empty name', { '': 'a' }],
    ])('with %s make the answer a 502', async (_, headers) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(() => ({ headers, body: 'never seen' }));
      const answer = await send(relay, '/hyco');
      expect(answer.status).toBe(502);
      expect(answer.phrase).toMatch(
        /^The listener sent a response that cannot be relayed: a response header holds characters that HTTP forbids\. /,
      );
      expect(answer.headers).not.toHaveProperty('via');
      expect(answer.headers).not.toHaveProperty('set-cookie');
      const series = 'halfway_refusals_total{reason="response-invalid",role="http"}';
      expect(await relay.metric(series)).toBe(1);
    });

    test('with letters beyond ASCII cross as UTF-8', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(() => ({ headers: { 'X-Name': 'Zoë' }, body: 'x' }));
      const answer = await send(relay, '/hyco');
      expect(Buffer.from(String(answer.headers['x-name']), 'latin1').toString()).toBe('Zoë');
    });
  });

  describe('status and reason phrase', () => {
    test.each([
      [200, undefined, 'OK'],
      [200, '', 'OK'],
      [201, 'Made', 'Made'],
      [306, undefined, 'Unused'],
      [418, undefined, "I'm a Teapot"],
      [450, undefined, 'Unknown'],
      [451, 'Nein – verboten', 'Nein ? verboten'],
      [500, 'one\r\nX-Evil: 1', 'one X-Evil: 1'],
      [502, undefined, 'Bad Gateway'],
      [504, undefined, 'Gateway Timeout'],
      [599, undefined, 'Unknown'],
    ] as const)('%i with phrase %o arrives as %o', async (status, phrase, expected) => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      listener.serve(() => ({ status, ...(phrase === undefined ? {} : { phrase }), body: 'x' }));
      const answer = await send(relay, '/hyco');
      expect(answer.status).toBe(status);
      expect(answer.phrase.toLowerCase()).toBe(expected.toLowerCase());
      expect(answer.headers).not.toHaveProperty('x-evil');
      expect(answer.headers).toHaveProperty('via');
    });

    test.each([0, 99, 100, 101, 199, 600, 999, 1000, -1, 200.5])(
      '%d is no final status: 502',
      async status => {
        await using relay = await startRelay({ dataPlane });
        await using listener = await listen(relay);
        listener.serve(() => ({ status }));
        const answer = await send(relay, '/hyco');
        expect(answer.status).toBe(502);
        expect(answer.phrase).toMatch(
          /^The listener sent a response that cannot be relayed: status /,
        );
      },
    );

    test('what the standard phrases of two statuses are when the listener gives none at all', async () => {
      await using relay = await startRelay({ dataPlane });
      await using listener = await listen(relay);
      const sent = send(relay, '/hyco');
      const { id } = await listener.next();
      expect(responseText(id)).not.toContain('statusDescription');
      listener.control.send(responseText(id, { status: 404 }));
      expect((await sent).phrase).toBe('Not Found');
    });
  });
});
