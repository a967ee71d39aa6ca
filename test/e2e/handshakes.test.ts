import { describe, expect, test } from 'vitest';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import { dial, exchangeRaw, headerValues, type DialOptions } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';

async function isWell(relay: TestRelay): Promise<void> {
  const control = await openListener(relay);
  const dialling = dialSender(relay);
  await control.acceptNext();
  expect((await dialling.answer).status).toBe(101);
}

describe('a handshake is refused with 400', () => {
  test.each<[string, string, DialOptions, RegExp]>([
    [
      'without a key',
      '/$hc/hyco',
      { without: ['sec-websocket-key'] },
      /^This endpoint is only for web-socket requests\. /,
    ],
    [
      'with a key that is too short',
      '/$hc/hyco',
      { without: ['sec-websocket-key'], headers: [['Sec-WebSocket-Key', 'short']] },
      /^This endpoint is only for web-socket requests\. /,
    ],
    // Proxies that know no WebSockets strip these two, and pass the rest on.
    [
      'without Upgrade and Connection',
      '/$hc/hyco',
      { without: ['upgrade', 'connection'] },
      /^This endpoint is only for web-socket requests\. /,
    ],
    [
      'that upgrades to something else',
      '/$hc/hyco',
      { without: ['upgrade'], headers: [['Upgrade', 'h2c']] },
      /^This endpoint is only for web-socket requests\. /,
    ],
    [
      'by POST',
      '/$hc/hyco',
      { method: 'POST' },
      /^This endpoint is only for web-socket requests\. /,
    ],
    [
      'of an older version',
      '/$hc/hyco',
      { without: ['sec-websocket-version'], headers: [['Sec-WebSocket-Version', '8']] },
      /^The web-socket handshake is malformed/,
    ],
    ['outside $hc', '/hyco', {}, /^Web-socket requests must use a path that begins with \/\$hc\//],
    [
      'with an unknown action',
      '/$hc/hyco?sb-hc-action=dance',
      {},
      /^Unsupported action 'dance'\. /,
    ],
    ['without a Host', '/$hc/hyco', { without: ['host'] }, /./],
    [
      'with a Host that cannot be one',
      '/$hc/hyco',
      { without: ['host'], headers: [['Host', 'a b/"<x>']] },
      /^The web-socket handshake is malformed/,
    ],
  ])('%s', async (_what, path, options, reason) => {
    await using relay = await startRelay();
    const answer = await dial(`${relay.wsUrl}${path}`, {
      ...options,
      headers: [...(options.headers ?? []), ['ServiceBusAuthorization', relay.token()]],
    }).answer;
    expect(answer.status).toBe(400);
    expect(answer.reason).toMatch(reason);
    await isWell(relay);
  });
});

test('an action that is refused cannot break out of the status line', async () => {
  await using relay = await startRelay();
  const evil = encodeURIComponent('x\r\nSet-Cookie: a=b\r\n\r\n');
  const answer = await dial(`${relay.wsUrl}/$hc/hyco?sb-hc-action=${evil}`).answer;
  expect(answer.status).toBe(400);
  expect(headerValues(answer, 'set-cookie')).toEqual([]);
});

test.each([
  ['dot segments', '/$hc/hyco/../a'],
  ['encoded dot segments', '/$hc/hyco/%2e%2E/a'],
  ['an encoded slash', '/$hc/hyco%2Fa'],
  ['an encoded backslash', '/$hc/hyco%5C..'],
  ['an encoded zero', '/$hc/hyco/%00'],
  ['a broken escape', '/$hc/hyco/%zz'],
  ['what is no UTF-8', '/$hc/hyco/%ff'],
  ['a path beyond all measure', `/$hc/hyco/${'x'.repeat(9_000)}`],
])('a path with %s is refused with 404, whoever asks', async (_what, path) => {
  await using relay = await startRelay();
  for (const action of ['listen', 'connect']) {
    const answer = await dial(`${relay.wsUrl}${path}?sb-hc-action=${action}`, {
      headers: [['ServiceBusAuthorization', relay.token('')]],
    }).answer;
    expect(answer.status).toBe(404);
    expect(answer.reason).toMatch(
      /^Endpoint does not exist: The path of the request is malformed\. /,
    );
  }
  await isWell(relay);
});

test.each([
  ['garbage', '\u0000\u0001\u0002garbage\r\n\r\n'],
  ['a TLS hello', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003'],
  ['HTTP/1.0', 'GET /$hc/hyco HTTP/1.0\r\nHost: x\r\n\r\n'],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a header without a name', 'GET /$hc/hyco HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n'],
  ['a header with a space in its name', 'GET /$hc/hyco HTTP/1.1\r\nHost: x\r\na b: y\r\n\r\n'],
  [
    'a megabyte of headers',
    `GET /$hc/hyco HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(1_000_000)}\r\n\r\n`,
  ],
  ['a thousand headers', `GET /$hc/hyco HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(1_000)}\r\n`],
])('%s instead of a handshake ends the connection, not the relay', async (_what, bytes) => {
  await using relay = await startRelay();
  const answer = await exchangeRaw(relay.wsUrl, Buffer.from(bytes, 'latin1'));
  expect(answer).not.toMatch(/^HTTP\/1\.1 [123]/);
  await isWell(relay);
});

test('a hundred half-open handshakes do not keep others out', async () => {
  await using relay = await startRelay();
  const halves = Array.from({ length: 100 }, () =>
    dial(`${relay.wsUrl}/$hc/hyco`, { without: ['host'], headers: [['Host', 'x\r\nX-Half: ']] }),
  );
  await isWell(relay);
  await Promise.all(halves.map(half => half.abandon()));
});

test('headers for both roles may come in any case and order, with spaces around', async () => {
  await using relay = await startRelay();
  const answer = await dialListener(relay, 'hyco', {
    token: '',
    without: ['upgrade', 'connection'],
    headers: [
      ['SERVICEBUSAUTHORIZATION', `  ${relay.token()}  `],
      ['upgrade', 'WebSocket'],
      ['connection', 'keep-alive, UPGRADE'],
    ],
  }).answer;
  expect(answer.status).toBe(101);
});
