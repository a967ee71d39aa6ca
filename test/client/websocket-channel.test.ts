import { createServer, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { systemClock } from '../../src/base/clock.ts';
import { dialWebSocket } from '../../src/client/dial-websocket.ts';
import type { DialOptions, FrameChannel } from '../../src/client/frame-channel.ts';
import { Routes } from '../../src/client/routes.ts';
import { spliceChannels } from '../../src/client/splice-channels.ts';
import { encodeFrame, FrameParser, OPCODES, parseClosePayload } from '../../src/protocol/frames.ts';
import { portOf } from '../cli/port-of.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Inbox } from '../support/inbox.ts';
import { until } from '../support/within.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

const dialer = dialWebSocket(new Routes({ proxy: false }));
const dial = (address: string, options: Partial<DialOptions> = {}): Promise<FrameChannel> =>
  dialer(address, { clock: systemClock, ...options });

async function listen(server: Server): Promise<number> {
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return portOf(server);
}

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
  return { url: `ws://127.0.0.1:${portOf(server)}/a?b=c`, sockets };
}

/** A server that answers the handshake and leaves the bytes to the test. */
async function startBarePeer() {
  const server = createServer();
  const streams = new Inbox<Duplex>('a stream at the peer');
  const webSockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, stream, head) => {
    webSockets.handleUpgrade(request, stream, head, () => {
      stream.removeAllListeners('data');
      streams.put(stream);
    });
  });
  cleanups.push(() => webSockets.close());
  return { url: `ws://127.0.0.1:${await listen(server)}/`, streams };
}

/** Everything that happens at a channel, one after another. */
function watch(channel: FrameChannel) {
  const events = new Inbox<readonly unknown[]>('an event of the channel');
  channel.receive({
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

describe('dialWebSocket()', () => {
  test('opens with headers, path and query as given, and the first of the subprotocols', async () => {
    const peer = await startPeer({ protocols: 'first' });
    const heads = new Inbox<string>('a request');
    const server = createServer();
    server.on('upgrade', request => {
      const { 'x-a': header, 'sec-websocket-protocol': protocols } = request.headers;
      heads.put([request.url, header, protocols].join(' '));
      request.socket.destroy();
    });
    const url = `ws://127.0.0.1:${await listen(server)}/$hc/a%2Fb?x=1&x=2`;
    const cut = dial(url, { headers: { 'X-A': 'yes' }, protocols: ['p1', 'p2'] });
    await expect(cut).rejects.toMatchObject({ code: 'ConnectionFailed', isTransient: true });
    expect(await heads.next()).toBe('/$hc/a%2Fb?x=1&x=2 yes p1, p2');
    const channel = await dial(peer.url, { protocols: ['p1', 'p2'] });
    expect([channel.protocol, channel.transport]).toEqual(['p1', 'websocket']);
    channel.destroy();
  });

  test('gives up on a server that does not answer, and leaves no timer behind', async () => {
    const server = createServer();
    server.on('upgrade', () => undefined);
    const clock = new FakeClock();
    const url = `ws://127.0.0.1:${await listen(server)}/`;
    const slow = dial(url, { clock, timeoutMs: 20_000 });
    clock.advance(20_000);
    await expect(slow).rejects.toMatchObject({ code: 'Timeout' });
    expect(clock.pendingTasks).toBe(0);
  });

  test.each(['http://x/', 'nothing', ''])('%j is no address', async address => {
    await expect(dial(address)).rejects.toMatchObject({ code: 'ProtocolError' });
  });

  test.each(['Sec-WebSocket-Extensions: permessage-deflate', 'Sec-WebSocket-Protocol: other'])(
    'refuses a server that adds what it was not offered: %s',
    async line => {
      const server = createServer();
      const webSockets = new WebSocketServer({ noServer: true });
      webSockets.on('headers', headers => void headers.push(line));
      server.on('upgrade', (request, stream, head) => {
        webSockets.handleUpgrade(request, stream, head, socket =>
          socket.on('error', () => undefined),
        );
      });
      const url = `ws://127.0.0.1:${await listen(server)}/`;
      await expect(dial(url)).rejects.toMatchObject({ code: 'ProtocolError' });
    },
  );
});

describe('WebSocketChannel', () => {
  test('sends fragments that make one message at the peer', async () => {
    const peer = await startPeer();
    const channel = await dial(peer.url);
    watch(channel);
    const messages = messagesAt(await peer.sockets.next());
    channel.send(OPCODES.text, false, Buffer.from('grüß'));
    channel.send(OPCODES.continuation, true, Buffer.from(' Gott'));
    channel.send(OPCODES.binary, true, Buffer.alloc(70_000, 7));
    expect((await messages.next()).data.toString()).toBe('grüß Gott');
    const { data, isBinary } = await messages.next();
    expect([data.equals(Buffer.alloc(70_000, 7)), isBinary]).toEqual([true, true]);
  });

  test('shows fragments one by one', async () => {
    const peer = await startPeer();
    const channel = await dial(peer.url);
    const events = watch(channel);
    const other = await peer.sockets.next();
    other.send('a', { fin: false });
    expect(await events.next()).toEqual(['fragment', OPCODES.text, false, 'a']);
    other.send('b', { fin: true });
    expect(await events.next()).toEqual(['fragment', OPCODES.continuation, true, 'b']);
  });

  test('goes on receiving after its own Close frame, until the peer closes', async () => {
    const peer = await startPeer();
    const channel = await dial(peer.url);
    const other = await peer.sockets.next();
    // The peer holds its own Close frame back until it has said what it has to say.
    const close = other.close.bind(other);
    const closing = new Promise<void>(resolve => {
      other.close = () => resolve();
    });
    const events = watch(channel);
    channel.close(1000, 'done');
    await closing;
    other.send('still here');
    expect(await events.next()).toEqual(['fragment', OPCODES.text, true, 'still here']);
    close(1000, 'done, too');
    expect(await events.next()).toEqual(['closed', 1000, 'done, too']);
    expect(await events.next()).toEqual(['gone', 1000]);
  });

  test('answers a ping', async () => {
    const peer = await startPeer();
    watch(await dial(peer.url));
    const other = await peer.sockets.next();
    const pong = new Promise<string>(resolve => {
      other.once('pong', (data: Buffer) => resolve(data.toString()));
    });
    other.ping('are you there');
    expect(await pong).toBe('are you there');
  });

  test('pings in silence, but cuts only where it is told to', async () => {
    const peer = await startPeer();
    const clock = new FakeClock();
    const channel = await dial(peer.url, { clock });
    const events = watch(channel);
    const other = await peer.sockets.next();
    for (let i = 0; i < 3; i += 1) {
      const ping = new Promise(resolve => void other.once('ping', resolve));
      clock.advance(15_000);
      await ping;
    }
    // The answers need not have come.
    clock.advance(60_000);
    other.send('still here');
    expect((await events.next())[0]).toBe('fragment');
    channel.destroy();
    expect(await events.next()).toEqual(['gone', 1006]);
    expect(clock.pendingTasks).toBe(0);
  });

  test('says 1006 when the peer goes without a Close frame', async () => {
    const peer = await startPeer();
    const events = watch(await dial(peer.url));
    (await peer.sockets.next()).terminate();
    expect(await events.next()).toEqual(['gone', 1006]);
  });

  test('cuts a peer that does not end the connection after both have closed', async () => {
    const peer = await startBarePeer();
    const clock = new FakeClock();
    const channel = await dial(peer.url, { clock });
    const events = watch(channel);
    const stream = await peer.streams.next();
    stream.resume();
    stream.write(encodeFrame({ opcode: OPCODES.close, payload: Buffer.from([3, 232]) }));
    expect(await events.next()).toEqual(['closed', 1000, '']);
    channel.close(1000);
    clock.advance(10_000);
    expect(await events.next()).toEqual(['gone', 1000]);
    expect(clock.pendingTasks).toBe(0);
  });

  test('tells a peer that breaks the protocol 1002, and is gone', async () => {
    const peer = await startBarePeer();
    const events = watch(await dial(peer.url));
    const stream = await peer.streams.next();
    const frames = new Inbox<string>('a frame');
    const parser = new FrameParser();
    stream.on('data', (chunk: Buffer) => {
      for (const { opcode, payload } of parser.push(chunk)) {
        const { code, reason } = parseClosePayload(payload);
        frames.put(`${opcode} ${code} ${reason}`);
      }
    });
    stream.write(encodeFrame({ opcode: OPCODES.continuation, payload: Buffer.from('of nothing') }));
    expect(await frames.next()).toBe('8 1002 The frames cannot be read: a continuation of nothing');
    expect(await events.next()).toEqual(['gone', 1006]);
  });

  test('reads nothing while paused, so that the peer is held up', async () => {
    const peer = await startPeer();
    const channel = await dial(peer.url);
    let received = 0;
    const all = new Promise<void>(resolve => {
      channel.receive({
        fragment: (_opcode, fin, payload) => {
          received += payload.length;
          if (fin) resolve();
        },
        closed: () => undefined,
        gone: () => undefined,
      });
    });
    channel.pause();
    const other = await peer.sockets.next();
    const [parts, part] = [512, Buffer.alloc(65_536)];
    const size = parts * part.length;
    for (let i = 1; i <= parts; i += 1) other.send(part, { fin: i === parts });
    await until('the kernel took a part', () => other.bufferedAmount < size);
    expect(received).toBe(0);
    expect(other.bufferedAmount).toBeGreaterThan(size / 4);
    channel.resume();
    await all;
    expect(received).toBe(size);
  });
});

async function splicedPair() {
  const [one, other] = await Promise.all([startPeer(), startPeer()]);
  const dialled = await Promise.all([dial(one.url), dial(other.url)]);
  const ended = new Promise<void>(resolve => spliceChannels(...dialled, resolve));
  return { one: await one.sockets.next(), other: await other.sockets.next(), ended };
}

describe('spliceChannels()', () => {
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
