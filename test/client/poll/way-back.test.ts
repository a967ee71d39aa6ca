import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { dialPoll } from '../../../src/client/poll/dial-poll.ts';
import { dialWebSocket } from '../../../src/client/dial-websocket.ts';
import type { Dial, FrameChannel } from '../../../src/client/frame-channel.ts';
import { RelayError } from '../../../src/client/relay-error.ts';
import { Routes } from '../../../src/client/routes.ts';
import { TransportMemory } from '../../../src/client/transport-memory.ts';
import { WayBack } from '../../../src/client/poll/way-back.ts';
import { ChannelEnd } from '../../support/channel-end.ts';
import { listenThrough, openPair, type PairListener } from '../../support/channel-pairs.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { startRelay, type TestRelay } from '../../support/relay.ts';
import { until } from '../../support/within.ts';

const routes = new Routes({ proxy: false });
const webSocket = dialWebSocket(routes);

let relay: TestRelay;
beforeAll(async () => {
  relay = await startRelay({ pollHoldMs: 1_000 });
});
afterAll(() => relay[Symbol.asyncDispose]());

describe('a session', () => {
  test('goes on over a WebSocket as soon as somebody else got through, both ways and to its end', async () => {
    await using it = await open();
    it.sender.sendText('by poll');
    await it.listener.event('1 fin by poll');
    it.memory.webSocketWorked(it.origin);
    await it.sender.event('moved websocket');
    expect(it.sender.channel.transport).toBe('websocket');
    const large = 'x'.repeat(3_000_000);
    it.sender.sendText(large);
    await until('all of it', () => textOf(it.listener) === `by poll${large}`, 10_000);
    it.listener.sendText('and back');
    await it.sender.event('1 fin and back');
    it.sender.channel.close(4001, 'done');
    expect(await it.listener.event('closed')).toBe('closed 4001 done');
    it.listener.channel.close(4002, 'too');
    expect(await it.sender.event('gone')).toBe('gone 4002');
  });

  test('polls again when its WebSocket breaks, and loses nothing', async () => {
    await using it = await open();
    it.memory.webSocketWorked(it.origin);
    await it.sender.event('moved websocket');
    for (let number = 0; number < 100; number += 1) {
      it.sender.sendText(`${number} `);
      it.listener.sendText(`${number} `);
      if (number === 50) it.dialled[0]?.destroy();
      await new Promise(resolve => void setImmediate(resolve));
    }
    await it.sender.event('moved poll');
    const all = Array.from({ length: 100 }, (_none, number) => `${number} `).join('');
    await until('everything', () => textOf(it.listener) === all && textOf(it.sender) === all);
    expect(it.sender.channel.transport).toBe('poll');
    // It had just been opened, so what broke it may do so again.
    expect(it.memory.isBlocked(it.origin)).toBe(true);
  });

  test('destroy() over a WebSocket ends the session at once', async () => {
    await using it = await open();
    it.memory.webSocketWorked(it.origin);
    await it.sender.event('moved websocket');
    it.sender.channel.destroy();
    expect(await it.sender.event('gone')).toBe('gone 1006');
    expect(await it.listener.event('closed')).toMatch(/^closed 10\d\d/);
  });

  test('that is over at the relay while it goes over a WebSocket is gone', async () => {
    await using it = await open();
    it.memory.webSocketWorked(it.origin);
    await it.sender.event('moved websocket');
    it.listener.channel.destroy();
    expect(await it.sender.event('closed')).toMatch(/^closed 10\d\d/);
    it.sender.channel.close();
    expect(await it.sender.event('gone')).toMatch(/^gone 10\d\d/);
  });
});

describe('WayBack', () => {
  test('looks every ten minutes or somewhat sooner, and when told, but not soon after a failure', async () => {
    const clock = new FakeClock();
    const memory = new TransportMemory(clock);
    const terms = {
      session: 's',
      protocol: '',
      holdMs: 1,
      expiryMs: 2,
      credit: 1,
      batchBytesMax: 1,
    };
    const place = { url: new URL('https://relay.test/$poll/s'), origin: 'here', terms };
    const asked: string[] = [];
    const wayBack = new WayBack(
      place,
      { clock, routes, memory, chance: () => 0.5 },
      {
        dial: address => {
          asked.push(address);
          return Promise.reject(new RelayError('Timeout', 'no'));
        },
        attempt: async dial => void (await dial({ turn: asked.length + 1, ack: 2, credit: 3 })),
      },
    );
    const looks = async (count: number): Promise<void> => {
      // The look that failed has been dealt with one turn of the event loop later.
      await new Promise(resolve => void setImmediate(resolve));
      expect(asked).toHaveLength(count);
    };
    clock.advance(540_000 - 1);
    await looks(0);
    clock.advance(1);
    await looks(1);
    memory.webSocketWorked('here');
    clock.advance(59_999);
    memory.webSocketWorked('here');
    await looks(1);
    clock.advance(1);
    memory.webSocketWorked('here');
    await looks(2);
    clock.advance(540_000);
    await looks(3);
    expect(asked[0]).toBe('wss://relay.test/$poll/s?turn=1&ack=2&credit=3');
    wayBack.stop();
    memory.webSocketWorked('here');
    clock.advance(10 * 540_000);
    await looks(3);
    expect(clock.pendingTasks).toBe(0);
  });
});

function textOf(end: ChannelEnd): string {
  return end.fragments.map(fragment => fragment.replace(/^\d \w+ /, '')).join('');
}

interface Opened extends AsyncDisposable {
  readonly sender: ChannelEnd;
  readonly listener: ChannelEnd;
  readonly memory: TransportMemory;
  readonly origin: string;
  /** WebSockets that the sender's session was moved to. */
  readonly dialled: readonly FrameChannel[];
}

/** A sender by poll, which may move, and a listener by WebSocket. */
async function open(): Promise<Opened> {
  const clock = systemClock;
  const memory = new TransportMemory(clock);
  const dialled: FrameChannel[] = [];
  const wayBack: Dial = async (address, dialOptions) => {
    const channel = await webSocket(address, dialOptions);
    dialled.push(channel);
    return channel;
  };
  const poll = dialPoll({ clock, routes, memory, chance: Math.random }, wayBack);
  const place = { relay, wsUrl: relay.wsUrl };
  const listening: PairListener = await listenThrough(webSocket, place);
  const { sender, listener } = await openPair(listening, poll, place);
  return {
    sender,
    listener,
    memory,
    origin: relay.httpUrl,
    dialled,
    async [Symbol.asyncDispose]() {
      sender.channel.destroy();
      listener.channel.destroy();
      listening[Symbol.dispose]();
      await sender.event('gone');
    },
  };
}
