// Handshakes that a balancer refuses itself.
import { describe, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { dial, exchangeRaw, type DialOptions } from '../support/raw-websocket.ts';
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
