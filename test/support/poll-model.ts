import { expect } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { dialPoll } from '../../src/client/poll/dial-poll.ts';
import { dialWebSocket } from '../../src/client/dial-websocket.ts';
import type { Dial } from '../../src/client/frame-channel.ts';
import type { SessionDeps } from '../../src/client/poll/poll-requests.ts';
import { Routes } from '../../src/client/routes.ts';
import { TransportMemory } from '../../src/client/transport-memory.ts';
import type { ChannelEnd } from './channel-end.ts';
import { listenThrough, openPair } from './channel-pairs.ts';
import { startCuttingProxy, type CuttingProxy } from './cutting-proxy.ts';
import { quickClock } from './quick-clock.ts';
import type { TestRelay } from './relay.ts';
import { below, seeded } from './seeded.ts';

// Both ends of a pair are long-poll sessions behind an intermediary that fails in every way, and both
// talk at once. With HALFWAY_TEST_SEED one seed, or several with commas, is run: that of a failure is in the test's name.

/** Those of the environment, or these. */
export function seedsOr(...seeds: readonly number[]): readonly number[] {
  return process.env['HALFWAY_TEST_SEED']?.split(',').map(Number) ?? seeds;
}

const MESSAGES = 1_500;
/** Waits between tries pass so much faster than they would. */
const QUICKER = 20;
const MOVING_QUICKER = 60;
export const MODEL_PATIENCE_MS = 60_000;
/** Options of its relays. The time after which sessions expire passes as fast as the waits, and is to be long on a busy machine, too. */
export const MODEL_RELAY = { pollHoldMs: 300, pollSessionTimeoutMs: 600_000 } as const;
const routes = new Routes({ proxy: false });

/**
 * Runs thousands of frames both ways, and both Close frames. `nodes`: of one cluster; each request goes to
 * any of them. `share`: of requests that come to harm, from 0 to 1.
 */
export async function runPollModel(
  seed: number,
  {
    nodes,
    share,
    dial,
  }: { readonly nodes: readonly TestRelay[]; readonly share: number; readonly dial: Dial },
): Promise<CuttingProxy> {
  const random = seeded(seed);
  const [relay] = nodes;
  if (relay === undefined) throw new Error('no node');
  const targetPorts = nodes.map(node => node.port);
  await using proxy = await startCuttingProxy({ targetPorts, seed, share });
  const place = { relay, wsUrl: `ws://127.0.0.1:${proxy.port}` };
  // The control channel lives through the same.
  using listening = await listenThrough(dial, place);
  const { sender, listener } = await openPair(listening, dial, place);
  const [down, up] = await Promise.all([
    talk(listener, seeded(seed + 1)),
    talk(sender, seeded(seed + 2)),
    read(sender, random),
    read(listener, random),
  ]);
  sender.channel.close(4001, 'sender has said it all');
  listener.channel.close(4002, 'listener has said it all');
  await sender.event('gone', MODEL_PATIENCE_MS);
  await listener.event('gone', MODEL_PATIENCE_MS);
  expect(messagesOf(listener)).toEqual(up);
  expect(messagesOf(sender)).toEqual(down);
  expect(endOf(listener)).toEqual(['closed 4001 sender has said it all', 'gone 4001']);
  expect(endOf(sender)).toEqual(['closed 4002 listener has said it all', 'gone 4002']);
  return proxy;
}

function endOf(end: ChannelEnd): readonly string[] {
  return end.events.filter(event => /^(?:closed|gone)/.test(event));
}

/** Sessions that never move to a WebSocket. */
export function pollDial(): Dial {
  return quickly(QUICKER, deps => dialPoll(deps));
}

function quickly(times: number, make: (deps: SessionDeps) => Dial): Dial {
  const clock = quickClock(times);
  const memory = new TransportMemory(clock);
  const dial = make({ clock, routes, memory, chance: Math.random });
  return (address, options) => dial(address, { ...options, clock: systemClock });
}

/** Sessions try WebSockets all the time, past the intermediary, which break after a moment. */
export function movingDial(
  relay: TestRelay,
  random: () => number,
): { readonly dial: Dial; readonly broken: () => number } {
  let broken = 0;
  const webSocket = dialWebSocket(routes);
  const breaking: Dial = async (address, options) => {
    const direct = address.replace(/^ws:\/\/[^/]+/, relay.wsUrl);
    const channel = await webSocket(direct, { ...options, clock: systemClock });
    setTimeout(
      () => {
        broken += 1;
        channel.destroy();
      },
      below(random, 400),
    );
    return channel;
  };
  const dial = quickly(MOVING_QUICKER, deps => {
    const poll = dialPoll(deps, breaking);
    return async (address, options) => {
      const channel = await poll(address, options);
      const trigger = setInterval(
        () => deps.memory.webSocketWorked(new URL(address.replace(/^ws/, 'http')).origin),
        50,
      );
      trigger.unref();
      return channel;
    };
  });
  return { dial, broken: () => broken };
}

/** Sends messages in bursts, some of several fragments, a few of them long; returns their texts. */
async function talk(end: ChannelEnd, random: () => number): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < MESSAGES) {
    for (let burst = 1 + below(random, 40); burst > 0; burst -= 1) {
      const parts = Array.from({ length: 1 + below(random, 3) }, (_none, part) => {
        const length = random() < 0.01 ? below(random, 100_000) : below(random, 100);
        return `${texts.length}.${part}`.padEnd(length, '-');
      });
      texts.push(parts.join(''));
      const goesOn = parts
        .map((part, index) =>
          end.channel.send(index === 0 ? 1 : 0, index === parts.length - 1, Buffer.from(part)),
        )
        .every(Boolean);
      if (!goesOn) {
        const before = end.events.filter(event => event === 'drained').length;
        await end.until(
          'drained',
          () => end.events.filter(event => event === 'drained').length > before,
          MODEL_PATIENCE_MS,
        );
      }
    }
    await pause(below(random, 60));
  }
  return texts;
}

/** Stops reading now and then, as long as the other end talks. */
async function read(end: ChannelEnd, random: () => number): Promise<void> {
  while (messagesOf(end).length < MESSAGES && !end.events.some(event => event.startsWith('gone'))) {
    await pause(below(random, 200));
    end.channel.pause();
    await pause(below(random, 100));
    end.channel.resume();
  }
}

/** The messages that an end has got, whole ones only. */
function messagesOf(end: ChannelEnd): string[] {
  const messages: string[] = [];
  let text = '';
  for (const fragment of end.fragments) {
    const [opcode = '', fin = ''] = fragment.split(' ', 2);
    if (opcode !== '0' && text !== '') messages.push(`broken: ${text}`);
    text += fragment.slice(opcode.length + fin.length + 2);
    if (fin !== 'fin') continue;
    messages.push(text);
    text = '';
  }
  return messages;
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => void setTimeout(resolve, ms));
}
