import { createServer } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import {
  ControlLink,
  type ControlLinkOptions,
} from '../../../src/cli/relay-client/control-link.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { Inbox } from '../../support/inbox.ts';
import { until } from '../../support/within.ts';
import { portOf } from '../port-of.ts';

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
      stream.end(`HTTP/1.1 ${refusal.status}\r\nContent-Length: 0\r\n\r\n`);
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

function startLink(address: string, options: Partial<ControlLinkOptions> = {}) {
  const clock = new FakeClock();
  const events = new Inbox<readonly unknown[]>('an event of the link');
  let tokens = 0;
  const link = new ControlLink({
    address,
    token: () => `token ${(tokens += 1)}`,
    tokenTtlMs: 3_600_000,
    canRenew: true,
    clock,
    onAccept: ({ id }) => events.put(['accept', id]),
    onRequest: ({ id }, body) => events.put(['request', id, body.toString()]),
    onRequestPointer: at => events.put(['pointer', at]),
    onOpen: () => events.put(['open']),
    onDown: (why, retryMs) => events.put(['down', why.message, retryMs]),
    ...options,
  });
  const ended = link.run();
  ended.catch(() => undefined);
  cleanups.push(() => link.stop());
  return { link, clock, events, ended };
}

const request = (id: string, body: boolean): string =>
  JSON.stringify({ request: { address: 'ws://x', id, requestTarget: '/a', method: 'GET', body } });

/** Half of what the back-off allows, to all of it. */
function isJittered(delayMs: number, failures: number): boolean {
  return delayMs >= 250 * 2 ** failures && delayMs <= 500 * 2 ** failures;
}

describe('ControlLink', () => {
  test('hands on accepts, pointers, and requests with the message that follows as body', async () => {
    const relay = await startFakeRelay();
    const { events } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    expect(await events.next()).toEqual(['open']);
    socket.send(JSON.stringify({ accept: { address: 'ws://x', id: '1', connectHeaders: {} } }));
    socket.send(request('2', true));
    socket.send(Buffer.from('the body'));
    socket.send(request('3', false));
    socket.send('{"somethingElse":{}}');
    socket.send(JSON.stringify({ request: { address: 'ws://there' } }));
    expect(await events.next()).toEqual(['accept', '1']);
    expect(await events.next()).toEqual(['request', '2', 'the body']);
    expect(await events.next()).toEqual(['request', '3', '']);
    expect(await events.next()).toEqual(['pointer', 'ws://there']);
  });

  test('renews its token well before it expires, again and again', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address, { tokenTtlMs: 30_000 });
    const { socket, token } = await relay.channels.next();
    await events.next();
    expect(token).toBe('token 1');
    const messages = new Inbox<string>('a message of the listener');
    socket.on('message', (data: Buffer) => messages.put(data.toString()));
    clock.advance(25_000);
    expect(await messages.next()).toBe('{"renewToken":{"token":"token 2"}}');
    clock.advance(25_000);
    expect(await messages.next()).toBe('{"renewToken":{"token":"token 3"}}');
  });

  test('comes back after a loss, later each time, with a new token', async () => {
    const refusal: { status?: string } = {};
    const relay = await startFakeRelay(refusal);
    const { clock, events } = startLink(relay.address);
    const first = await relay.channels.next();
    await events.next();
    refusal.status = '503 Draining';
    first.socket.close(1001, 'draining');
    const delays: number[] = [];
    for (let i = 0; i < 4; i += 1) {
      const [event, why, retryMs] = await events.next();
      expect([event, why]).toEqual([
        'down',
        i === 0 ? 'the relay closed with 1001 draining' : '503 Draining',
      ]);
      delays.push(Number(retryMs));
      if (i < 3) clock.advance(Number(retryMs));
    }
    expect(delays.filter(isJittered)).toEqual(delays);
    delete refusal.status;
    clock.advance(delays[3] ?? 0);
    expect((await relay.channels.next()).token).toBe('token 5');
    expect(await events.next()).toEqual(['open']);
  });

  test.each(['401 Bad token', '403 Wrong right', '404 No such thing'])(
    'gives up when its very first try is refused with %s',
    async status => {
      const relay = await startFakeRelay({ status });
      await expect(startLink(relay.address).ended).rejects.toThrow(status);
    },
  );

  test('tries again when nothing listens there yet', async () => {
    const { events } = startLink('ws://127.0.0.1:1/');
    expect(await events.next()).toEqual([
      'down',
      expect.stringContaining('ECONNREFUSED'),
      expect.any(Number),
    ]);
  });

  test('breaks a channel on which two pings went unanswered', async () => {
    const relay = await startFakeRelay();
    const { clock, events } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    await events.next();
    socket.pause();
    clock.advance(30_000);
    clock.advance(30_000);
    expect((await events.next())[0]).toBe('down');
  });

  test('closes with 1000 when stopped, and leaves no timer behind', async () => {
    const relay = await startFakeRelay();
    const { link, clock, events, ended } = startLink(relay.address);
    const { socket } = await relay.channels.next();
    await events.next();
    const closed = new Promise<number>(resolve => void socket.once('close', resolve));
    link.stop();
    expect(await closed).toBe(1000);
    await ended;
    await until('no timer', () => clock.pendingTasks === 0);
  });
});
