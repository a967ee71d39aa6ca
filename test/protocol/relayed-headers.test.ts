import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canonicalHeaderName,
  connectHeadersOf,
  listenerFilterOf,
  reasonPhrase,
  requestHeadersOf,
  responseHeadersOf,
} from '../../src/protocol/relayed-headers.ts';

const HOST = 'relay.example.com';
const REQUEST = { viaHost: HOST, stripAuthorization: false };
const UUID_A = '1c048eb5-77c4-4b85-96fd-fa526801af35';
const UUID_B = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11';

describe('canonicalHeaderName()', () => {
  const names =
    'Sec-WebSocket-Key Sec-WebSocket-Version Sec-WebSocket-Protocol Sec-WebSocket-Extensions Host Origin ' +
    'WWW-Authenticate ETag Content-Type User-Agent Via X-Tenant Access-Control-Request-Method Cookie ' +
    'traceparent X-1a-B';
  test.each(names.split(' '))('spells %s', name => {
    expect(canonicalHeaderName(name.toLowerCase())).toBe(name);
    expect(canonicalHeaderName(name.toLowerCase())).toBe(name);
  });

  test('changes nothing but the case, however many names there were', () => {
    const name = fc.stringMatching(/^[a-z0-9!#$%&'*+.^_`|~-]{1,80}$/);
    fc.assert(
      fc.property(name, lower => {
        expect(canonicalHeaderName(lower).toLowerCase()).toBe(lower);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('connectHeadersOf()', () => {
  test('keeps all headers of the handshake except the token of the relay', () => {
    const relayed = connectHeadersOf([
      ['host', 'relay.example.com:443'],
      ['connection', 'Upgrade'],
      ['upgrade', 'websocket'],
      ['sec-websocket-version', '13'],
      ['sec-websocket-key', 'l8fWd829IrZbEqUcLejv+Q=='],
      ['sec-websocket-extensions', 'permessage-deflate'],
      ['servicebusauthorization', 'SharedAccessSignature sr=x'],
      ['authorization', 'Basic eDp5'],
      ['x-tenant', 'blue'],
    ]);
    expect(relayed).toEqual({
      Host: 'relay.example.com:443',
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': 'l8fWd829IrZbEqUcLejv+Q==',
      'Sec-WebSocket-Extensions': 'permessage-deflate',
      Authorization: 'Basic eDp5',
      'X-Tenant': 'blue',
    });
  });

  test('joins repeated headers, cookies in their own way', () => {
    const relayed = connectHeadersOf([
      ['sec-websocket-protocol', 'chat.v2'],
      ['cookie', 'a=1'],
      ['sec-websocket-protocol', 'chat.v1'],
      ['cookie', 'b=2'],
    ]);
    expect(relayed).toEqual({ 'Sec-WebSocket-Protocol': 'chat.v2, chat.v1', Cookie: 'a=1; b=2' });
  });

  test('is not confused by names that objects have of their own', () => {
    const relayed = connectHeadersOf([
      ['__proto__', 'x'],
      ['constructor', 'y'],
      ['tostring', 'z'],
    ]);
    expect(Object.entries(relayed)).toEqual([
      ['Constructor', 'y'],
      ['Tostring', 'z'],
    ]);
    expect(Object.getPrototypeOf(relayed)).toBe(Object.prototype);
  });
});

describe('requestHeadersOf()', () => {
  test('strips what belongs to the connection, the framing and the relay, and keeps Host', () => {
    const relayed = requestHeadersOf(
      [
        ['host', HOST],
        ['connection', 'keep-alive, X-Hop , x-other-hop, Host'],
        ['keep-alive', 'timeout=5'],
        ['proxy-connection', 'keep-alive'],
        ['x-hop', '1'],
        ['x-other-hop', '2'],
        ['content-length', '5'],
        ['transfer-encoding', 'chunked'],
        ['te', 'trailers'],
        ['trailer', 'X-Sum'],
        ['upgrade', 'h2c'],
        ['close', '1'],
        ['expect', '100-continue'],
        ['servicebusauthorization', 'SharedAccessSignature sr=x'],
        ['microsoft-relay-allowedlisteners', UUID_A],
        ['microsoft-relay-other', '1'],
        ['authorization', 'Bearer application'],
        ['content-type', 'application/json'],
        ['content-encoding', 'gzip'],
      ],
      REQUEST,
    );
    expect(relayed).toEqual({
      Host: HOST,
      Authorization: 'Bearer application',
      'Content-Type': 'application/json',
      'Content-Encoding': 'gzip',
      Via: `1.1 ${HOST}`,
    });
  });

  test('strips Authorization when the relay has evaluated it', () => {
    const headers = [['authorization', 'SharedAccessSignature sr=x']] as const;
    expect(requestHeadersOf(headers, { viaHost: HOST, stripAuthorization: true })).toEqual({
      Via: `1.1 ${HOST}`,
    });
  });

  test('appends to a Via that was there', () => {
    expect(requestHeadersOf([['via', '1.0 proxy']], REQUEST)).toEqual({
      Via: `1.0 proxy, 1.1 ${HOST}`,
    });
  });

  test("joins repeated headers as .NET's tests want it", () => {
    const relayed = requestHeadersOf(
      [
        ['customheader', 'requestValue1'],
        ['customheader', 'requestValue2'],
        ['cookie', 'a=1'],
        ['cookie', 'b=2'],
      ],
      REQUEST,
    );
    expect(relayed['Customheader']).toBe('requestValue1, requestValue2');
    expect(relayed['Cookie']).toBe('a=1; b=2');
  });
});

describe('responseHeadersOf()', () => {
  const written = (pairs: readonly (readonly [string, string])[]): unknown =>
    responseHeadersOf(pairs, { viaHost: HOST });
  const via = ['Via', `1.1 ${HOST}`];

  test('drops framing that listeners copy from origins, and remembers the length', () => {
    expect(
      written([
        ['Content-Length', '42'],
        ['content-length', '43'],
        ['transfer-encoding', 'chunked'],
        ['Connection', 'close, X-Hop'],
        ['x-hop', '1'],
        ['Keep-Alive', 'timeout=5'],
        ['Upgrade', 'h2'],
        ['Content-Type', 'text/plain'],
        ['x-left', ' spaced\t'],
      ]),
    ).toEqual({
      headers: [['Content-Type', 'text/plain'], ['x-left', 'spaced'], via],
      contentLength: 42,
      hasContentType: true,
    });
  });

  test.each(['-1', 'abc', '', '1e3', '9'.repeat(16)])('takes "%s" for no length', length => {
    expect(written([['content-length', length]])).toEqual({
      headers: [via],
      hasContentType: false,
    });
  });

  test('appends to the Via of the listener', () => {
    expect(
      written([
        ['via', '1.1 origin'],
        ['Via', '1.1 proxy'],
      ]),
    ).toEqual({
      headers: [['Via', `1.1 origin, 1.1 proxy, 1.1 ${HOST}`]],
      hasContentType: false,
    });
  });

  test('takes cookies apart that .NET joined, and keeps arrays', () => {
    const dated = 'a=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Path=/';
    expect(
      written([
        ['Set-Cookie', `${dated},b=2; HttpOnly, c=3`],
        ['Set-Cookie', 'd=4'],
      ]),
    ).toEqual({
      headers: [
        ['Set-Cookie', dated],
        ['Set-Cookie', 'b=2; HttpOnly'],
        ['Set-Cookie', 'c=3'],
        ['Set-Cookie', 'd=4'],
        via,
      ],
      hasContentType: false,
    });
  });

  test.each([
    ['a line feed in a value', 'X-Bad', 'a\nSet-Cookie: b=1'],
    ['a carriage return in a value', 'X-Bad', 'a\rb'],
    ['a NUL in a value', 'X-Bad', 'a\0b'],
    ['a delete character in a value', 'X-Bad', 'a\u007f'],
    ['a line break in the value of a header that is dropped', 'Content-Length', '1\r\n\r\n'],
    ['a space in a name', 'X Bad', 'a'],
    ['a colon in a name', 'X-Bad:', 'a'],
    ['a line break in a name', 'X-Bad\r\nX', 'a'],
    ['a line break behind a name', 'X-Bad\n', 'a'],
    ['a letter beyond ASCII in a name', 'X-Bäd', 'a'],
    ['no name', '', 'a'],
  ])('refuses %s', (_, name, value) => {
    expect(
      written([
        ['X-Good', '1'],
        [name, value],
      ]),
    ).toEqual({ invalid: name });
  });

  test('lets tabs and letters beyond ASCII through in values', () => {
    expect(written([['x-name', 'ø\tü']])).toEqual({
      headers: [['x-name', 'ø\tü'], via],
      hasContentType: false,
    });
  });

  test('never throws, and writes nothing that could end a line', () => {
    const text = fc.string({ unit: 'binary' });
    const name = fc.oneof(fc.constantFrom('Connection', 'set-cookie', 'via', 'x-a'), text);
    fc.assert(
      fc.property(fc.array(fc.tuple(name, text)), pairs => {
        const relayed = responseHeadersOf(pairs, { viaHost: HOST });
        if ('invalid' in relayed) return;
        for (const pair of relayed.headers) expect(pair.join(': ')).not.toMatch(/[\r\n\0]/);
        expect(relayed.headers.at(-1)?.[0]).toBe('Via');
      }),
    );
  });
});

describe('reasonPhrase()', () => {
  test.each([
    [200, '', 'OK'],
    [306, '', 'Unused'],
    [418, ' \r\n', "I'm a Teapot"],
    [450, '', 'Unknown'],
    [404, 'no such room', 'no such room'],
    [400, 'a\r\nSet-Cookie: b', 'a Set-Cookie: b'],
    [400, 'tab\tand \u0000 NUL\u007f', 'tab and   NUL'],
    [400, 'schön 🙂', 'sch?n ?'],
  ])('of %d and %j', (status, description, phrase) => {
    expect(reasonPhrase(status, description)).toBe(phrase);
  });

  test('is printable ASCII of bounded length, whatever the description', () => {
    fc.assert(
      fc.property(fc.integer(), fc.string({ unit: 'binary', size: 'large' }), (status, text) => {
        expect(reasonPhrase(status, text)).toMatch(/^[!-~](?:[ -~]{0,1022}[!-~])?$/);
      }),
    );
    expect(reasonPhrase(400, 'a'.repeat(100_000))).toHaveLength(1_024);
  });
});

describe('listenerFilterOf()', () => {
  test('is empty without routing headers', () => {
    expect(listenerFilterOf([['host', HOST]])).toEqual({});
  });

  test('reads comma-separated ids in lower case, without the suffixes of gateways', () => {
    expect(
      listenerFilterOf([
        ['microsoft-relay-allowedlisteners', ` ${UUID_A.toUpperCase()} ,${UUID_B}_G3,`],
        ['microsoft-relay-disallowedlisteners', UUID_B],
        ['microsoft-relay-disallowedlisteners', UUID_A],
      ]),
    ).toEqual({ allowed: new Set([UUID_A, UUID_B]), disallowed: new Set([UUID_B, UUID_A]) });
  });

  test('allows no listener when none is named', () => {
    expect(listenerFilterOf([['microsoft-relay-allowedlisteners', 'x']])).toEqual({
      allowed: new Set(),
    });
  });
});
