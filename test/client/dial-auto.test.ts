import { describe, expect, test } from 'vitest';
import { dialAuto } from '../../src/client/dial-auto.ts';
import type { ChannelEvents, Dial, FrameChannel } from '../../src/client/frame-channel.ts';
import { UPGRADE_STRIPPED } from '../../src/client/refused-answers.ts';
import { RelayError, type RelayErrorCode } from '../../src/client/relay-error.ts';
import { Routes } from '../../src/client/routes.ts';
import { TransportMemory } from '../../src/client/transport-memory.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { until } from '../support/within.ts';

const LISTEN = 'ws://relay.test/$hc/hyco?sb-hc-action=listen';
const CONNECT = 'ws://relay.test/$hc/hyco?sb-hc-action=connect';
const ORIGIN = 'http://relay.test';
const TRACKED = { trackingId: '5ef6' };

describe('dialAuto()', () => {
  test('takes a WebSocket where one passes', async () => {
    const it = setUp({ webSocket: [channel('websocket')] });
    expect((await it.dial(LISTEN)).transport).toBe('websocket');
    expect(it.dialled).toEqual(['websocket']);
  });

  test.each<[string, RelayErrorCode, object]>([
    ['an answer of something else', 'ProtocolError', { status: 200 }],
    ['a failure of something else', 'Unavailable', { status: 502 }],
    ['no answer', 'Timeout', {}],
    ['a proxy that tunnels nothing', 'ProxyRefused', { status: 403 }],
    ['a cut handshake', 'ConnectionFailed', { cause: { code: 'ECONNRESET' } }],
  ])('polls after %s, and then without a try', async (_what, code, details) => {
    const it = setUp({
      webSocket: [new RelayError(code, 'no', details)],
      poll: [channel('poll'), channel('poll')],
    });
    expect((await it.dial(LISTEN)).transport).toBe('poll');
    expect((await it.dial(LISTEN)).transport).toBe('poll');
    expect(it.dialled).toEqual(['websocket', 'poll', 'poll']);
  });

  test('polls when the relay says that no Upgrade reached it', async () => {
    const stripped = new RelayError('ProtocolError', `400 ${UPGRADE_STRIPPED}`, TRACKED);
    const it = setUp({ webSocket: [stripped], poll: [channel('poll')] });
    expect((await it.dial(CONNECT)).transport).toBe('poll');
  });

  test.each<[string, RelayErrorCode, object]>([
    ['the relay refuses the token', 'Unauthorized', { status: 401, ...TRACKED }],
    ['the relay is busy', 'Unavailable', { status: 503, ...TRACKED }],
    ['a listener rejects', 'Rejected', { status: 403 }],
    ['the caller wants no more', 'Aborted', {}],
    ['the certificate is not trusted', 'TlsFailed', {}],
    ['the proxy wants credentials', 'ProxyRefused', { status: 407 }],
    ['nothing listens there', 'ConnectionFailed', { cause: { code: 'ECONNREFUSED' } }],
  ])('does not poll when %s', async (_what, code, details) => {
    const error = new RelayError(code, 'no', details);
    const it = setUp({ webSocket: [error] });
    await expect(it.dial(CONNECT)).rejects.toBe(error);
    expect(it.memory.isBlocked(ORIGIN)).toBe(false);
  });

  test('tells what the relay says to the poll, or else why the WebSocket failed', async () => {
    const first = new RelayError('Unavailable', 'a page', { status: 502 });
    const word = new RelayError('Unauthorized', 'no', { status: 401, ...TRACKED });
    const noise = new RelayError('ProtocolError', 'another page', { status: 405 });
    const it = setUp({ webSocket: [first, first], poll: [word, noise] });
    await expect(it.dial(LISTEN)).rejects.toBe(word);
    await expect(it.dial(LISTEN)).rejects.toBe(first);
    expect(it.memory.isBlocked(ORIGIN)).toBe(false);
  });

  test('tries a WebSocket again after ten minutes, and at once when polls do not pass either', async () => {
    const it = setUp({
      webSocket: [new RelayError('Timeout', 'no'), channel('websocket'), channel('websocket')],
      poll: [channel('poll'), new RelayError('Unavailable', 'no', { status: 502 })],
    });
    await it.dial(LISTEN);
    expect((await it.dial(LISTEN)).transport).toBe('websocket');
    it.memory.webSocketFailed(ORIGIN);
    it.clock.advance(10 * 60_000);
    expect((await it.dial(LISTEN)).transport).toBe('websocket');
    expect(it.dialled).toEqual(['websocket', 'poll', 'poll', 'websocket', 'websocket']);
  });

  test('three WebSockets in a row that break within 10 s block it; one that holds counts anew', async () => {
    const channels = Array.from({ length: 6 }, () => channel('websocket'));
    const it = setUp({ webSocket: channels });
    const breakAfter = async (ms: number): Promise<void> => {
      const number = it.dialled.length;
      (await it.dial(LISTEN)).receive(IGNORED);
      it.clock.advance(ms);
      channels[number]?.break();
    };
    await breakAfter(9_999);
    await breakAfter(0);
    await breakAfter(10_000);
    await breakAfter(5_000);
    await breakAfter(5_000);
    expect(it.memory.isBlocked(ORIGIN)).toBe(false);
    await breakAfter(5_000);
    expect(it.memory.isBlocked(ORIGIN)).toBe(true);
  });

  test('what its user ends early says nothing against WebSockets', async () => {
    const channels = Array.from({ length: 3 }, () => channel('websocket'));
    const it = setUp({ webSocket: channels });
    for (const each of channels) {
      const dialled = await it.dial(LISTEN);
      dialled.receive(IGNORED);
      dialled.destroy();
      each.break();
    }
    expect(it.memory.isBlocked(ORIGIN)).toBe(false);
  });

  test('a sender whose listener takes its time is not given up while handshakes are heard', async () => {
    const taken = channel('websocket');
    const refused = new RelayError('EndpointNotFound', 'no session', { status: 404, ...TRACKED });
    const it = setUp({ webSocket: ['never', refused] });
    const dialling = it.dial(CONNECT);
    await until('the handshake', () => it.dialled.length === 1);
    it.clock.advance(12_000);
    await until('the question', () => it.dialled.length === 2);
    it.clock.advance(40_000);
    it.settle(taken);
    expect((await dialling).transport).toBe('websocket');
    expect(it.dialled).toEqual(['websocket', 'websocket']);
  });

  test('a sender whose handshakes nobody hears polls', async () => {
    const it = setUp({
      webSocket: ['never', new RelayError('Timeout', 'no')],
      poll: [channel('poll')],
    });
    const dialling = it.dial(CONNECT);
    await until('the handshake', () => it.dialled.length === 1);
    it.clock.advance(12_000);
    expect((await dialling).transport).toBe('poll');
    expect(it.dialled).toEqual(['websocket', 'websocket', 'poll']);
    expect(it.memory.isBlocked(ORIGIN)).toBe(true);
    expect(it.clock.pendingTasks).toBe(0);
  });
});

describe('TransportMemory', () => {
  test('polls are held three quarters of the time after which one was cut, but 2 s at least', () => {
    const clock = new FakeClock();
    const memory = new TransportMemory(clock);
    expect(memory.holdMs(ORIGIN, 25_000)).toBe(25_000);
    expect(memory.pollCut(ORIGIN, 4_999)).toBe(false);
    expect(memory.holdMs(ORIGIN, 25_000)).toBe(25_000);
    expect(memory.pollCut(ORIGIN, 20_000)).toBe(true);
    expect(memory.holdMs(ORIGIN, 25_000)).toBe(15_000);
    expect(memory.holdMs(ORIGIN, 10_000)).toBe(10_000);
    expect(memory.holdMs('http://other.test', 25_000)).toBe(25_000);
    for (let cut = 0; cut < 10; cut += 1) memory.pollCut(ORIGIN, 5_000);
    expect(memory.holdMs(ORIGIN, 25_000)).toBe(3_750);
    clock.advance(10 * 60_000);
    expect(memory.holdMs(ORIGIN, 25_000)).toBe(25_000);
  });

  test('tells those who wait for a WebSocket that one works, until they do not want to know', () => {
    const memory = new TransportMemory(new FakeClock());
    let told = 0;
    const stop = memory.onWebSocket(ORIGIN, () => {
      told += 1;
    });
    memory.webSocketWorked('http://other.test');
    memory.webSocketWorked(ORIGIN);
    stop();
    memory.webSocketWorked(ORIGIN);
    expect(told).toBe(1);
  });
});

const IGNORED: ChannelEvents = {
  fragment: () => undefined,
  closed: () => undefined,
  gone: () => undefined,
};

interface FakeChannel extends FrameChannel {
  break(): void;
}

function channel(transport: 'websocket' | 'poll'): FakeChannel {
  let events: ChannelEvents | undefined;
  return {
    protocol: '',
    transport,
    receive: all => {
      events = all;
    },
    send: () => true,
    close: () => undefined,
    destroy: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    break: () => events?.gone(1006),
  };
}

type Outcome = FrameChannel | RelayError | 'never';

/** Dials that give the next of their outcomes each; `never` waits for `settle` or the signal. */
function setUp(outcomes: {
  readonly webSocket?: readonly Outcome[];
  readonly poll?: readonly Outcome[];
}): {
  readonly dial: (address: string) => Promise<FrameChannel>;
  readonly dialled: readonly string[];
  readonly memory: TransportMemory;
  readonly clock: FakeClock;
  readonly settle: (channel: FrameChannel) => void;
} {
  const clock = new FakeClock();
  const memory = new TransportMemory(clock);
  const dialled: string[] = [];
  let settle: ((channel: FrameChannel) => void) | undefined;
  const dialOf = (name: 'webSocket' | 'poll'): Dial => {
    const left = [...(outcomes[name] ?? [])];
    return async (_address, { signal }) => {
      dialled.push(name.toLowerCase());
      const outcome = left.shift();
      if (outcome === undefined) throw new Error(`${name} is not to be dialled`);
      if (outcome instanceof RelayError) throw outcome;
      if (outcome !== 'never') return outcome;
      return new Promise((resolve, reject) => {
        settle = resolve;
        signal?.addEventListener('abort', () => reject(new RelayError('Aborted', 'aborted')));
      });
    };
  };
  const dial = dialAuto({
    webSocket: dialOf('webSocket'),
    poll: dialOf('poll'),
    memory,
    routes: new Routes({ proxy: false }),
  });
  return {
    dial: address => dial(address, { clock }),
    dialled,
    memory,
    clock,
    settle: each => settle?.(each),
  };
}
