// The wire of Azure's Java client.
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { JavaListener, javaConnect, readAcceptAsJava } from '../support/java-client.ts';
import { startRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

describe('the reader that the tests below stand on', () => {
  const id = '0f6b9f0e-5f0a-4c53-8f0c-7b7a2d6f5d11_G3';
  const accept = {
    address: `wss://relay.example.com/$hc/hyco?a=b&sb-hc-action=accept&sb-hc-id=${id}`,
    id,
    connectHeaders: { Host: 'x' },
    remoteEndpoint: { address: '203.0.113.7', port: 1 },
  };

  test('takes what the real service sends', () => {
    expect(readAcceptAsJava(JSON.stringify({ accept }))).toMatchObject({ id });
  });

  test.each([
    ['another key beside it', { accept, extra: 1 }],
    ['an id that is no UUID', { accept: { ...accept, id: 'x' } }],
    ['no remoteEndpoint', { accept: { ...accept, remoteEndpoint: undefined } }],
    ['no connectHeaders', { accept: { ...accept, connectHeaders: undefined } }],
    ['a header that is no string', { accept: { ...accept, connectHeaders: { A: ['b'] } } }],
    ['a pair of three parts', { accept: { ...accept, address: `${accept.address}&a=b=c` } }],
    ['an illegal URI', { accept: { ...accept, address: `${accept.address}&a=<b>` } }],
  ])('throws on %s', (_what, message) => {
    expect(() => readAcceptAsJava(JSON.stringify(message))).toThrow();
  });
});

describe.each(DATA_PLANES)('Java on $dataPlane', ({ dataPlane }) => {
  test('listener and sender exchange messages longer than a frame it takes', async () => {
    await using relay = await startRelay({ dataPlane });
    const listener = new JavaListener(relay);
    await listener.open();
    const sender = await javaConnect(relay, { path: 'hyco/a%20b', query: 'q=%22x%22&y' });
    const accepted = await listener.channels.next();
    for (const size of [0, 1, 65_536, 65_537, 300_000]) {
      const payload = randomBytes(size);
      sender.write(payload);
      expect((await accepted.messages.next()).equals(payload)).toBe(true);
      accepted.write(payload);
      expect((await sender.messages.next()).equals(payload)).toBe(true);
    }
    await sender.close();
    await until('the pair is forgotten', () => relay.server.status().senders === 0);
    expect(listener.faults).toEqual([]);
  });
});

test.each([
  ['nothing special', 'hyco', 'sb-hc-action=connect', []],
  ['characters that no URI may hold', 'hyco/{a}|b', 'x=<y>"z"^`&sb-hc-action=connect', []],
  ['percent signs and plus', 'hyco/100%25+1', 'a=%26%20+&b', []],
  ['letters of the world', 'hyco/%C3%A9', 'n=%E4%BD%A0', []],
  ['an id that is no UUID', 'hyco', 'sb-hc-action=connect&sb-hc-id=mine', []],
  [
    'headers of every kind',
    'hyco',
    '',
    [
      ['X-Empty', ''],
      ['Cookie', 'a=1'],
      ['Cookie', 'b=2'],
    ],
  ],
] as const)(
  'a sender with %s costs no Java listener its channel',
  async (_what, path, query, headers) => {
    await using relay = await startRelay();
    const listener = new JavaListener(relay);
    await listener.open();
    const answer = await dialSender(relay, path, { query, headers }).answer;
    expect(answer.status).toBe(101);
    expect(listener.faults).toEqual([]);
    expect(listener.accepts[0]?.connectHeaders['Sec-WebSocket-Key']).toMatch(/^[\w+/]{22}==$/);
  },
);

test('a listener that renews with what is no token is closed with 1008 and comes back', async () => {
  await using relay = await startRelay();
  const listener = new JavaListener(relay);
  await listener.open();
  listener.renew();
  const { code, reason } = await listener.closes.next();
  expect(code).toBe(1008);
  expect(reason).toMatch(/^MalformedToken: /);
  await until('it is back', () => relay.server.status().listeners === 1);
  await javaConnect(relay);
  await listener.channels.next();
});

test('a sender that asks for a subprotocol is let in without one', async () => {
  await using relay = await startRelay();
  const listener = new JavaListener(relay);
  await listener.open();
  const answer = await dialSender(relay, 'hyco', {
    headers: [['Sec-WebSocket-Protocol', 'chat']],
  }).answer;
  expect(answer.status).toBe(101);
  expect(listener.accepts[0]?.connectHeaders['Sec-WebSocket-Protocol']).toBe('chat');
});
