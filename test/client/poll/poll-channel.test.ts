import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { dialPoll } from '../../../src/client/poll/dial-poll.ts';
import { dialWebSocket } from '../../../src/client/dial-websocket.ts';
import type { Dial } from '../../../src/client/frame-channel.ts';
import { Routes } from '../../../src/client/routes.ts';
import { TransportMemory } from '../../../src/client/transport-memory.ts';
import { listenThrough, openPair } from '../../support/channel-pairs.ts';
import { startRelay, type TestRelay } from '../../support/relay.ts';
import { until } from '../../support/within.ts';

const routes = new Routes({ proxy: false });
const poll: Dial = dialPoll({
  clock: systemClock,
  routes,
  memory: new TransportMemory(systemClock),
  chance: Math.random,
});
const webSocket: Dial = dialWebSocket(routes);

let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay({ pollHoldMs: 1_000 });
});
afterAll(() => relay[Symbol.asyncDispose]());

describe.each([
  ['poll', 'poll', poll, poll],
  ['poll', 'WebSocket', poll, webSocket],
  ['WebSocket', 'poll', webSocket, poll],
])('a sender by %s and a listener by %s', (_one, _other, senderDial, listenerDial) => {
  test('exchange messages, fragments as they are, and close one after the other', async () => {
    const place = { relay, wsUrl: relay.wsUrl };
    using listening = await listenThrough(listenerDial, place);
    const { sender, listener } = await openPair(listening, senderDial, place);
    sender.sendText('hello');
    await listener.event('1 fin hello');
    listener.channel.send(2, false, Buffer.from('one'));
    listener.channel.send(0, false, Buffer.from(''));
    listener.channel.send(0, true, Buffer.from('two'));
    await sender.event('0 fin two');
    expect(sender.fragments.map(each => each.slice(0, 1)).join('')).toMatch(/^2[02]*0$/);
    sender.channel.close(4001, 'sender is done');
    expect(await listener.event('closed')).toBe('closed 4001 sender is done');
    listener.sendText('still here');
    await sender.event('1 fin still here');
    listener.channel.close();
    expect(await sender.event('closed')).toBe('closed 1005');
    expect(await sender.event('gone')).toBe('gone 1005');
    expect(await listener.event('gone')).toBe('gone 4001');
  });

  test('destroy() of one end is told to the other', async () => {
    const place = { relay, wsUrl: relay.wsUrl };
    using listening = await listenThrough(listenerDial, place);
    const { sender, listener } = await openPair(listening, senderDial, place);
    sender.channel.destroy();
    expect(await sender.event('gone')).toBe('gone 1006');
    expect(await listener.event('closed')).toMatch(/^closed 10\d\d/);
    listener.channel.close();
    expect(await listener.event('gone')).toMatch(/^gone 10\d\d$/);
  });

  test('a reader that pauses stops the writer, and loses nothing', async () => {
    const place = { relay, wsUrl: relay.wsUrl };
    using listening = await listenThrough(listenerDial, place);
    const { sender, listener } = await openPair(listening, senderDial, place);
    listener.channel.pause();
    const part = Buffer.alloc(60_000, 'x');
    let sent = 0;
    // All buffers on the way are far smaller than this.
    for (; sent < 2_000; sent += 1) {
      part.writeUInt32BE(sent);
      if (!sender.channel.send(2, true, part)) {
        const before = sender.events.length;
        const drained = sender.until('drained', () => sender.events.length > before, 1_000);
        if (
          !(await drained.then(
            () => true,
            () => false,
          ))
        )
          break;
      }
    }
    expect(sent).toBeLessThan(2_000);
    const all = sent + 1;
    listener.channel.resume();
    const bytes = (): number =>
      listener.fragments.reduce((sum, each) => sum + each.length - each.indexOf(' ', 2) - 1, 0);
    await until('all has come', () => bytes() >= all * 59_996, 10_000);
    const finals = listener.fragments.filter(each => each[2] === 'f');
    expect(finals).toHaveLength(all);
    sender.channel.destroy();
    listener.channel.destroy();
  });
});
