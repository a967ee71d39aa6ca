import { describe, expect, test } from 'vitest';
import { encodeFrame, OPCODES } from '../../src/protocol/frames.ts';
import { joinPair, onlyListener, openListener } from '../support/azure-clients.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

/** The listener still gets its senders. */
async function isServed(relay: TestRelay): Promise<void> {
  const pair = await joinPair(relay);
  pair.sender.send('hello');
  expect(await pair.listener.nextText()).toBe('hello');
}

const ignored = (relay: TestRelay, why: string): Promise<number> =>
  relay.metric(`halfway_ignored_messages_total{why="${why}"}`);

const response = (body: boolean): string =>
  JSON.stringify({ response: { requestId: 'x', statusCode: 200, responseHeaders: {}, body } });

describe('a control channel', () => {
  test.each([
    ['text that is no JSON', 'hello'],
    ['an empty text', ''],
    ['JSON that is no object', '[{"renewToken":{}}]'],
    ['an accept of its own', '{"accept":{"address":"ws://x","id":"y","connectHeaders":{}}}'],
    ['an injected fault', '{"injectFault":{"delay":"00:01:00"}}'],
    ['a response to nothing in particular', '{"response":{}}'],
    ['a prototype', '{"__proto__":{"renewToken":{"token":"x"}}}'],
    ['deep nesting', `${'['.repeat(30_000)}${']'.repeat(30_000)}`],
  ])('outlives %s, which is counted', async (_what, text) => {
    await using relay = await startRelay();
    const { control } = await onlyListener(relay);
    control.send(text);
    await isServed(relay);
    expect(await ignored(relay, 'unreadable')).toBe(1);
  });

  test('outlives responses to requests that nobody made, with and without a body', async () => {
    await using relay = await startRelay();
    const { control } = await onlyListener(relay);
    control.send(response(false));
    control.send(response(true));
    control.send(Buffer.from('its body'));
    control.send(Buffer.from('a stray one'));
    control.send(Buffer.alloc(0));
    await isServed(relay);
    expect(await ignored(relay, 'unknown-request')).toBe(2);
    expect(await ignored(relay, 'stray-body')).toBe(1);
  });

  test('takes what comes in fragments, with pings between them', async () => {
    await using relay = await startRelay();
    const { control } = await onlyListener(relay);
    control.send('{"renewT', { fin: false });
    control.send('', { opcode: OPCODES.ping });
    control.send('oken":{"token":', { opcode: OPCODES.continuation, fin: false });
    control.send('"no token"}}', { opcode: OPCODES.continuation });
    expect((await control.nextFrame()).opcode).toBe(OPCODES.pong);
    expect(await control.nextClose()).toMatchObject({ code: 1008 });
  });

  test('takes a message of 64 KiB, and ends with 1009 on a longer one', async () => {
    await using relay = await startRelay({ controlMessageBytesMax: 65_536 });
    const { control } = await onlyListener(relay);
    control.send(Buffer.alloc(65_536));
    await isServed(relay);
    expect(await ignored(relay, 'stray-body')).toBe(1);
    control.send('x'.repeat(65_537));
    expect(await control.nextClose()).toMatchObject({ code: 1009 });
    await control.ended();
    expect(await relay.metric('halfway_listener_disconnects_total{reason="message-too-big"}')).toBe(
      1,
    );
  });

  test('ends when a message has no end', async () => {
    await using relay = await startRelay();
    const { control } = await openListener(relay);
    let isOver = false;
    void control.ended().then(() => (isOver = true));
    control.send('x', { fin: false });
    await until('the relay has had enough', async () => {
      control.send('x'.repeat(60_000), { opcode: OPCODES.continuation, fin: false });
      await new Promise(setImmediate);
      return isOver;
    });
    expect(relay.server.status().listeners).toBe(0);
  });

  test.each<[string, Uint8Array]>([
    ['a reserved opcode', encodeFrame({ opcode: 3, payload: Buffer.from('x'), mask: 1 })],
    ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0])],
    ['a long ping', encodeFrame({ opcode: OPCODES.ping, payload: Buffer.alloc(126), mask: 1 })],
    [
      'text that is no UTF-8',
      encodeFrame({ opcode: OPCODES.text, payload: Buffer.from([0xff]), mask: 1 }),
    ],
  ])('ends on %s, and no pair notices', async (_what, bytes) => {
    await using relay = await startRelay();
    const pair = await joinPair(relay);
    pair.control.control.sendRaw(bytes);
    await pair.control.control.ended();
    await until('the listener is gone', () => relay.server.status().listeners === 0);
    pair.sender.send('hello');
    expect(await pair.listener.nextText()).toBe('hello');
  });

  test('takes unsolicited pongs, and answers pings', async () => {
    await using relay = await startRelay();
    const { control } = await onlyListener(relay);
    control.send('', { opcode: OPCODES.pong });
    control.send('are you there', { opcode: OPCODES.ping });
    const frame = await control.nextFrame();
    expect(frame.opcode).toBe(OPCODES.pong);
    expect(Buffer.from(frame.payload).toString()).toBe('are you there');
    await isServed(relay);
  });
});
