import { createServer } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { systemClock } from '../../../src/base/clock.ts';
import {
  dial,
  HandshakeRefused,
  type FrameSocket,
} from '../../../src/cli/relay-client/frame-socket.ts';
import { spliceSockets } from '../../../src/cli/relay-client/splice-sockets.ts';
import { OPCODES } from '../../../src/protocol/frames.ts';
import { portOf } from '../port-of.ts';
import { Inbox } from '../../support/inbox.ts';
import { until } from '../../support/within.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** A server of the ws package, as an outside judge of our frames. */
async function startPeer(options: { readonly protocols?: 'first' } = {}) {
  const server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    maxFragments: 0,
    perMessageDeflate: false,
    ...(options.protocols === 'first' ? {} : { handleProtocols: () => false }),
  });
  const sockets = new Inbox<WebSocket>('a WebSocket at the peer');
  server.on('connection', socket => sockets.put(socket));
  await new Promise(resolve => void server.once('listening', resolve));
  cleanups.push(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  const port = portOf(server);
  return { url: `ws://127.0.0.1:${port}/a?b=c`, sockets };
}

/** Everything that happens at a socket, one after another. */
function watch(socket: FrameSocket) {
  const events = new Inbox<readonly unknown[]>('an event of the socket');
  socket.receive({
    fragment: (opcode, fin, payload) => events.put(['fragment', opcode, fin, payload.toString()]),
    closed: (code, reason) => events.put(['closed', code, reason]),
    gone: code => events.put(['gone', code]),
  });
  return events;
}

function messagesAt(socket: WebSocket) {
  const messages = new Inbox<{ readonly data: Buffer; readonly isBinary: boolean }>('a message');
  socket.on('message', (data: Buffer, isBinary) => messages.put({ data, isBinary }));
  return messages;
}

describe('dial()', () => {
  test('opens with headers, path and query as given, and the first of the subprotocols', async () => {
    const peer = await startPeer({ protocols: 'first' });
    const heads = new Inbox<string>('a request');
    const server = createServer();
    server.on('upgrade', request => {
      const { 'x-a': header, 'sec-websocket-protocol': protocols } = request.headers;
      heads.put([request.url, header, protocols].join(' '));
      request.socket.destroy();
    });
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void server.close());
    const port = portOf(server);
    const url = `ws://127.0.0.1:${port}/$hc/a%2Fb?x=1&x=2`;
    const options = { clock: systemClock, headers: { 'X-A': 'yes' }, protocols: ['p1', 'p2'] };
    await expect(dial(url, options)).rejects.toThrow(/hang up/);
    expect(await heads.next()).toBe('/$hc/a%2Fb?x=1&x=2 yes p1, p2');
    const socket = await dial(peer.url, { clock: systemClock, protocols: ['p1', 'p2'] });
    expect(socket.protocol).toBe('p1');
    socket.destroy();
  });

  test('rejects with status and reason of a refusal', async () => {
    const server = createServer();
    server.on('upgrade', request => {
      request.socket.end('HTTP/1.1 401 No token here\r\nContent-Length: 0\r\n\r\n');
    });
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void server.close());
    const port = portOf(server);
    const refusal = dial(`ws://127.0.0.1:${port}/`, { clock: systemClock });
    await expect(refusal).rejects.toThrow(HandshakeRefused);
    await expect(refusal).rejects.toThrow('401 No token here');
  });

  test('gives up on a server that does not answer', async () => {
    const server = createServer();
    server.on('upgrade', () => undefined);
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const port = portOf(server);
    const slow = dial(`ws://127.0.0.1:${port}/`, { clock: systemClock, timeoutMs: 20 });
    await expect(slow).rejects.toThrow('took too long');
  });
});

describe('FrameSocket', () => {
  test('sends fragments that make one message at the peer', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    watch(socket);
    const messages = messagesAt(await peer.sockets.next());
    socket.send(OPCODES.text, false, Buffer.from('grüß'));
    socket.send(OPCODES.continuation, true, Buffer.from(' Gott'));
    socket.send(OPCODES.binary, true, Buffer.alloc(70_000, 7));
    expect((await messages.next()).data.toString()).toBe('grüß Gott');
    const { data, isBinary } = await messages.next();
    expect([data.equals(Buffer.alloc(70_000, 7)), isBinary]).toEqual([true, true]);
  });

  test('shows fragments one by one', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    const events = watch(socket);
    const other = await peer.sockets.next();
    other.send('a', { fin: false });
    expect(await events.next()).toEqual(['fragment', OPCODES.text, false, 'a']);
    other.send('b', { fin: true });
    expect(await events.next()).toEqual(['fragment', OPCODES.continuation, true, 'b']);
  });

  test('goes on receiving after its own Close frame, until the peer closes', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    const other = await peer.sockets.next();
    // The peer holds its own Close frame back until it has said what it has to say.
    const close = other.close.bind(other);
    const closing = new Promise<void>(resolve => {
      other.close = () => resolve();
    });
    const events = watch(socket);
    socket.close(1000, 'done');
    await closing;
    other.send('still here');
    expect(await events.next()).toEqual(['fragment', OPCODES.text, true, 'still here']);
    close(1000, 'done, too');
    expect(await events.next()).toEqual(['closed', 1000, 'done, too']);
    expect(await events.next()).toEqual(['gone', 1000]);
  });

  test('answers a ping', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    watch(socket);
    const other = await peer.sockets.next();
    const pong = new Promise<string>(resolve => {
      other.once('pong', (data: Buffer) => resolve(data.toString()));
    });
    other.ping('are you there');
    expect(await pong).toBe('are you there');
  });

  test('says 1006 when the peer goes without a Close frame', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    const events = watch(socket);
    (await peer.sockets.next()).terminate();
    expect(await events.next()).toEqual(['gone', 1006]);
  });

  test('reads nothing while paused, so that the peer is held up', async () => {
    const peer = await startPeer();
    const socket = await dial(peer.url, { clock: systemClock });
    let received = 0;
    const all = new Promise<void>(resolve => {
      socket.receive({
        fragment: (_opcode, fin, payload) => {
          received += payload.length;
          if (fin) resolve();
        },
        closed: () => undefined,
        gone: () => undefined,
      });
    });
    socket.pause();
    const other = await peer.sockets.next();
    const [parts, part] = [512, Buffer.alloc(65_536)];
    const size = parts * part.length;
    for (let i = 1; i <= parts; i += 1) other.send(part, { fin: i === parts });
    await until('the kernel took a part', () => other.bufferedAmount < size);
    expect(received).toBe(0);
    expect(other.bufferedAmount).toBeGreaterThan(size / 4);
    socket.resume();
    await all;
    expect(received).toBe(size);
  });
});

async function splicedPair() {
  const [one, other] = await Promise.all([startPeer(), startPeer()]);
  const dialled = await Promise.all([
    dial(one.url, { clock: systemClock }),
    dial(other.url, { clock: systemClock }),
  ]);
  const ended = new Promise<void>(resolve => spliceSockets(...dialled, resolve));
  return { one: await one.sockets.next(), other: await other.sockets.next(), ended };
}

describe('spliceSockets()', () => {
  test('forwards both ways, and the Close frame with code and reason', async () => {
    const { one, other, ended } = await splicedPair();
    const messages = [messagesAt(one), messagesAt(other)] as const;
    one.send('to the other');
    other.send(Buffer.from('to the one'));
    expect((await messages[1].next()).data.toString()).toBe('to the other');
    expect(await messages[0].next()).toEqual({ data: Buffer.from('to the one'), isBinary: true });
    const closed = new Promise<string>(resolve => {
      other.once('close', (code, reason) => resolve(`${code} ${reason.toString()}`));
    });
    one.close(4001, 'enough');
    expect(await closed).toBe('4001 enough');
    await ended;
  });

  test('breaks the other side when one breaks', async () => {
    const { one, other, ended } = await splicedPair();
    const closed = new Promise<number>(resolve => void other.once('close', resolve));
    one.terminate();
    expect(await closed).toBe(1006);
    await ended;
  });
});
