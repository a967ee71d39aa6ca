import { createServer } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { RECONNECT_MAX_MS } from '../../src/client/backoff.ts';
import { ControlLink, type ControlLinkOptions } from '../../src/client/control-link.ts';
import { dialWebSocket } from '../../src/client/dial-websocket.ts';
import { Routes } from '../../src/client/routes.ts';
import { portOf } from '../cli/port-of.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Inbox } from '../support/inbox.ts';
import { until } from '../support/within.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** A relay that is nothing but a WebSocket server; `refusal` is what it answers instead of 101. */
async function startFakeRelay(refusal: { status?: string } = {}) {
  const http = createServer();
  const webSocket = new WebSocketServer({ noServer: true });
  const channels = new Inbox<{ readonly socket: WebSocket; readonly token: unknown }>('a channel');
  http.on('upgrade', (request, stream, head) => {
    if (refusal.status !== undefined) {
      stream.end(`HTTP/1.1 ${refusal.status}. TrackingId:1-2-3\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    webSocket.handleUpgrade(request, stream, head, socket => {
      channels.put({ socket, token: request.headers['servicebusauthorization'] });
    });
  });
  await new Promise<void>(resolve => void http.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    for (const client of webSocket.clients) client.terminate();
    http.close();
  });
  return { address: `ws://127.0.0.1:${portOf(http)}/$hc/a?sb-hc-action=listen`, channels };
}

const HOUR_MS = 3_600_000;

function startLink(
  address: string,
  options: Partial<ControlLinkOptions> = {},
  clock = new FakeClock(),
) {
  const events = new Inbox<readonly unknown[]>('an event of the link');
  let tokens = 0;
  const link = new ControlLink({
    address,
    clock,
    dial: dialWebSocket(new Routes({ proxy: false })),
    getToken: validForMs =>
      Promise.resolve({
        token: `token ${(tokens += 1)}`,
        expiresAtMs: clock.wallMs() + validForMs,
      }),
    onAccept: ({ id }) => events.put(['accept', id]),
    onRequest: ({ id }, body) => events.put(['request', id, body.toString()]),
    onRequestPointer: at => events.put(['pointer', at]),
    onOnline: () => events.put(['online']),
    onMoved: () => undefined,
    onOffline: why => events.put(['offline', why.message]),
    onRetry: ({ why, delayMs, failures }) => events.put(['retry', why.code, delayMs, failures]),
    onRenewalFailure: why => events.put(['renewal failed', String(why)]),
    // The longest pause that there may be.
    random: () => 1,
    ...options,
  });
  const ended = link.run();
  ended.catch(() => undefined);
  cleanups.push(() => link.stop());
  return { link, clock, events, ended };
}

const request = (id: string, body: boolean): string =>
  JSON.stringify({ request: { address: 'ws://x', id, requestTarget: '/a', method: 'GET', body } });

function textsOf(socket: WebSocket): Inbox<string> {
  const messages = new Inbox<string>('a message of the listener');
  socket.on('message', (data: Buffer) => messages.put(data.toString()));
  return messages;
}

describe('ControlLink', () => {
  test('hands on accepts, pointers, and requests with the message that follows as body', async () => {
    const relay = await startFakeRelay();
    const { events } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    expect(await events.next()).toEqual(['online']);
    socket.send(JSON.stringify({ accept: { address: 'ws://x', id: '1', connectHeaders: {} } }));
    socket.send(request('2', true));
    socket.send(Buffer.from('the '), { fin: false });
    socket.send(Buffer.from('body'));
    socket.send(Buffer.from('of nothing'));
    socket.send(request('3', false));
    socket.send('{"somethingElse":{}}');
    socket.send(JSON.stringify({ request: { address: 'ws://there' } }));
    expect(await events.next()).toEqual(['accept', '1']);
    expect(await events.next()).toEqual(['request', '2', 'the body']);
    expect(await events.next()).toEqual(['request', '3', '']);
    expect(await events.next()).toEqual(['pointer', 'ws://there']);
  });

  test('closes a channel that sends more than any relay does, and comes back', async () => {
    const relay = await startFakeRelay();
    const { events } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    await events.next();
    const closed = new Promise<number>(resolve => void socket.once('close', resolve));
    socket.send('x'.repeat(1_048_577));
    expect(await closed).toBe(1009);
    expect((await events.next())[0]).toBe('offline');
  });

  test('renews its token after three quarters of its life, again and again', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address);
    const { socket, token } = await relay.channels.next();
    await events.next();
    expect(token).toBe('token 1');
    const messages = textsOf(socket);
    // Every answered ping shows that the connection is alive; the clock would cut it otherwise.
    const pass = async (ms: number): Promise<void> => {
      for (let left = ms; left > 0; left -= 10_000) {
        const pinged = new Promise(resolve => void socket.once('pong', resolve));
        socket.ping();
        await pinged;
        clock.advance(Math.min(10_000, left));
      }
    };
    await pass(HOUR_MS * 0.75 - 1_000);
    expect(messages.size).toBe(0);
    await pass(1_000);
    expect(await messages.next()).toBe('{"renewToken":{"token":"token 2"}}');
    await pass(HOUR_MS * 0.75);
    expect(await messages.next()).toBe('{"renewToken":{"token":"token 3"}}');
  });

  test('tries a failed renewal again; an unchanged token is not sent', async () => {
    const relay = await startFakeRelay();
    const answers = ['first', 'first', new Error('the vault is locked'), 'second'];
    const clock = new FakeClock();
    const getToken: ControlLinkOptions['getToken'] = () => {
      const answer = answers.shift();
      if (typeof answer !== 'string') return Promise.reject(answer ?? new Error('asked too often'));
      return Promise.resolve({ token: answer, expiresAtMs: clock.wallMs() + 10_000 });
    };
    const { events } = startLink(relay.address, { getToken }, clock);
    const { socket } = await relay.channels.next();
    await events.next();
    const messages = textsOf(socket);
    clock.advance(7_500);
    await until('asked', () => answers.length === 2);
    // Something comes, so that the silence of the fake relay does not cut the channel.
    socket.ping();
    await new Promise(resolve => void socket.once('pong', resolve));
    clock.advance(15_000);
    expect(await events.next()).toEqual(['renewal failed', 'Error: the vault is locked']);
    socket.ping();
    await new Promise(resolve => void socket.once('pong', resolve));
    clock.advance(15_000);
    expect(await messages.next()).toBe('{"renewToken":{"token":"second"}}');
  });

  test('comes back after a loss, later each time up to a limit, with a new token', async () => {
    const refusal: { status?: string } = {};
    const relay = await startFakeRelay(refusal);
    const { clock, events } = startLink(relay.address);
    const first = await relay.channels.next();
    await events.next();
    refusal.status = '503 Busy';
    first.socket.terminate();
    expect((await events.next())[1]).toMatch(/broke/);
    const delays: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      const [event, code, delayMs] = await events.next();
      expect([event, code]).toEqual(['retry', i === 0 ? 'ConnectionLost' : 'Unavailable']);
      delays.push(Number(delayMs));
      if (i < 8) clock.advance(Number(delayMs));
    }
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    delete refusal.status;
    clock.advance(RECONNECT_MAX_MS);
    expect((await relay.channels.next()).token).toBe('token 10');
    expect(await events.next()).toEqual(['online']);
  });

  test('comes back at once when the relay sends it elsewhere, but not again and again', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address);
    const first = await relay.channels.next();
    await events.next();
    first.socket.close(1001, 'draining');
    expect(await events.next()).toEqual([
      'offline',
      'The relay closed the control channel with 1001 draining',
    ]);
    expect(await events.next()).toEqual(['retry', 'ConnectionLost', 0, 1]);
    clock.advance(0);
    const second = await relay.channels.next();
    await events.next();
    second.socket.close(1001, 'draining');
    await events.next();
    expect(await events.next()).toEqual(['retry', 'ConnectionLost', 1_000, 2]);
    clock.advance(1_000);
    // One that held for a while makes the past forgotten.
    const third = await relay.channels.next();
    await events.next();
    clock.advance(10_000);
    third.socket.close(1001, 'draining');
    await events.next();
    expect(await events.next()).toEqual(['retry', 'ConnectionLost', 0, 1]);
  });

  test('comes back with a new token when the relay says that the old one is over', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address);
    const first = await relay.channels.next();
    await events.next();
    first.socket.close(1008, 'ExpiredToken: The token is expired.');
    await events.next();
    expect(await events.next()).toEqual(['retry', 'Unauthorized', 500, 1]);
    clock.advance(500);
    expect((await relay.channels.next()).token).toBe('token 2');
  });

  test.each(['400 Malformed', '401 Bad token', '403 Wrong right', '404 No such thing'])(
    'gives up when its very first try is refused with %s',
    async status => {
      const relay = await startFakeRelay({ status });
      await expect(startLink(relay.address).ended).rejects.toThrow(status);
    },
  );

  test.each(['401 Bad token', '404 No such thing'])(
    'goes on trying when it was online once and is refused with %s',
    async status => {
      const refusal: { status?: string } = {};
      const relay = await startFakeRelay(refusal);
      const { clock, events } = startLink(relay.address);
      const { socket } = await relay.channels.next();
      await events.next();
      refusal.status = status;
      socket.terminate();
      await events.next();
      await events.next();
      clock.advance(500);
      expect(await events.next()).toEqual(['retry', expect.any(String), 1_000, 2]);
    },
  );

  test('tries again when nothing listens there yet', async () => {
    const { events } = startLink('ws://127.0.0.1:1/');
    expect(await events.next()).toEqual(['retry', 'ConnectionFailed', 500, 1]);
  });

  test('pings after 15 s of silence, and breaks a channel that does not answer for as long again', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    await events.next();
    const pinged = new Promise(resolve => void socket.once('ping', resolve));
    clock.advance(15_000);
    await pinged;
    socket.ping();
    await new Promise(resolve => void socket.once('pong', resolve));
    socket.pause();
    clock.advance(15_000);
    clock.advance(15_000);
    expect((await events.next())[0]).toBe('offline');
  });

  test.each(['while online', 'while it waits', 'while it dials', 'while it asks for a token'])(
    'ends when stopped %s, and leaves no timer behind',
    async when => {
      const relay = await startFakeRelay(when === 'while it waits' ? { status: '503 Busy' } : {});
      const { link, clock, events, ended } = startLink(relay.address, {
        ...(when === 'while it dials'
          ? {
              dial: (_address, { signal }) =>
                new Promise((_resolve, reject) => {
                  signal?.addEventListener('abort', () => reject(signal.reason));
                }),
            }
          : {}),
        ...(when === 'while it asks for a token' ? { getToken: () => new Promise(() => {}) } : {}),
      });
      let closed = Promise.resolve(1000);
      if (when === 'while online') {
        const { socket } = await relay.channels.next();
        await events.next();
        closed = new Promise<number>(resolve => void socket.once('close', resolve));
      } else if (when === 'while it waits') await events.next();
      else await new Promise(setImmediate);
      link.stop();
      expect(await closed).toBe(1000);
      await ended.catch(() => undefined);
      await until('no timer', () => clock.pendingTasks === 0);
      expect(link.send('late')).toBe(false);
    },
  );
});
