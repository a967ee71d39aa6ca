import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  fitsControlChannel,
  formatAccept,
  formatRenewToken,
  formatRequest,
  formatRequestPointer,
  formatResponse,
  parseListenerMessage,
  parseServiceMessage,
} from '../../src/protocol/control-messages.ts';
import { formatRendezvousId } from '../../src/protocol/ids.ts';
import listenerMessages from '../fixtures/listener-messages.json' with { type: 'json' };
import serviceMessages from '../fixtures/service-messages.json' with { type: 'json' };

const UUID = '8d0c2a1e-7c55-4b41-9a52-2f2f3f1a9c10';
const ID = formatRendezvousId(UUID, '00112233445566778899aabbccddeeff');
const ADDRESS = `wss://node3.relay.example.com/$hc/hyco?sb-hc-action=accept&sb-hc-id=${ID}`;
const REMOTE = { address: '203.0.113.7', port: 52_110 };

const headerRecord = fc.dictionary(fc.stringMatching(/^[A-Za-z][A-Za-z-]{0,9}$/), fc.string());

describe('messages to a listener', () => {
  test('formatAccept() has the four fields that Java needs, in one top-level key', () => {
    const connectHeaders = {
      Host: 'relay.example.com:443',
      'Sec-WebSocket-Key': 'l8fWd829IrZbEqUcLejv+Q==',
    };
    const text = formatAccept({ address: ADDRESS, id: ID, connectHeaders, remoteEndpoint: REMOTE });
    expect(JSON.parse(text)).toEqual({
      accept: { address: ADDRESS, id: ID, connectHeaders, remoteEndpoint: REMOTE },
    });
  });

  test('formatRequest() always has method and body, which tell it from a pointer', () => {
    const request = {
      address: ADDRESS,
      id: ID,
      requestTarget: '/hyco/orders?state=open',
      method: 'GET',
      requestHeaders: { Accept: 'application/json' },
      remoteEndpoint: REMOTE,
      body: false,
    };
    expect(JSON.parse(formatRequest(request))).toEqual({ request });
  });

  test('formatRequestPointer() has the address and nothing else', () => {
    expect(formatRequestPointer(ADDRESS)).toBe(`{"request":{"address":"${ADDRESS}"}}`);
  });

  test.each(serviceMessages)('parseServiceMessage() reads $name', ({ text, message }) => {
    expect(parseServiceMessage(text)).toEqual(message);
  });

  test('parseServiceMessage() reads what was formatted', () => {
    const remoteEndpoint = fc.record({ address: fc.string(), port: fc.nat() });
    const accept = fc.record({
      address: fc.string(),
      id: fc.constant(ID),
      connectHeaders: headerRecord,
      remoteEndpoint,
    });
    fc.assert(
      fc.property(accept, message => {
        expect(parseServiceMessage(formatAccept(message))).toEqual({ type: 'accept', ...message });
      }),
    );
    const request = fc.record({
      address: fc.string(),
      id: fc.constant(ID),
      requestTarget: fc.string(),
      method: fc.string(),
      requestHeaders: headerRecord,
      remoteEndpoint,
      body: fc.boolean(),
    });
    fc.assert(
      fc.property(request, message => {
        expect(parseServiceMessage(formatRequest(message))).toEqual({
          type: 'request',
          ...message,
        });
      }),
    );
  });
});

describe('messages of a listener', () => {
  test.each(listenerMessages)('parseListenerMessage() reads $name', ({ text, message }) => {
    expect(parseListenerMessage(text)).toEqual(message);
  });

  test('parseListenerMessage() reads what was formatted', () => {
    const response = fc.record({
      requestId: fc.string({ minLength: 1 }),
      statusCode: fc.integer({ min: 100, max: 999 }),
      statusDescription: fc.string(),
      responseHeaders: headerRecord,
      body: fc.boolean(),
    });
    fc.assert(
      fc.property(response, message => {
        expect(parseListenerMessage(formatResponse(message))).toEqual({
          type: 'response',
          ...message,
          responseHeaders: Object.entries(message.responseHeaders),
        });
      }),
    );
    fc.assert(
      fc.property(fc.string(), token => {
        expect(parseListenerMessage(formatRenewToken(token))).toEqual({
          type: 'renewToken',
          token,
        });
      }),
    );
  });
});

describe('parsers of messages', () => {
  const names =
    'response renewToken accept request requestId statusCode responseHeaders connectHeaders address ' +
    'id method requestTarget remoteEndpoint token body port __proto__';
  const anyKey = fc.constantFrom(...names.split(' '));
  const { tree } = fc.letrec(tie => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.jsonValue({ maxDepth: 1 }),
      fc.array(tie('tree'), { maxLength: 2 }),
      fc.dictionary(anyKey, tie('tree'), { maxKeys: 4 }),
    ),
  }));

  test('never throw, whatever the JSON', () => {
    fc.assert(
      fc.property(tree, value => {
        const text = JSON.stringify(value);
        expect(parseListenerMessage(text)).toHaveProperty('type');
        expect(parseServiceMessage(text)).toHaveProperty('type');
      }),
      { numRuns: 1_000 },
    );
  });

  test('never throw, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        expect(parseListenerMessage(text)).toHaveProperty('type');
        expect(parseServiceMessage(text)).toHaveProperty('type');
      }),
    );
    expect(parseListenerMessage('['.repeat(60_000)).type).toBe('unreadable');
  });
});

describe('fitsControlChannel()', () => {
  test.each([
    ['a short text', 'a', true],
    ['65,535 bytes', 'a'.repeat(65_535), true],
    ['65,536 bytes', 'a'.repeat(65_536), false],
    ['65,535 bytes of two-byte letters', `a${'ø'.repeat(32_767)}`, true],
    ['65,536 bytes of two-byte letters', 'ø'.repeat(32_768), false],
  ])('of %s', (_, text, fits) => {
    expect(fitsControlChannel(text)).toBe(fits);
  });
});
