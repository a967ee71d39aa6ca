import { once } from 'node:events';
import { createServer, connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { describe, expect, test } from 'vitest';
import { HybridConnectionClient, type RelayConnection } from '../../src/client/client.ts';
import {
  RelayConnection as Connection,
  type ConnectionOptions,
} from '../../src/client/relay-connection.ts';
import { OPCODES } from '../../src/protocol/frames.ts';
import { portOf } from '../cli/port-of.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { TestChannel } from '../support/frame-channels.ts';
import { Inbox } from '../support/inbox.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until, within } from '../support/within.ts';
import { openListener, optionsFor } from './implementations.ts';

function open(options: ConnectionOptions = {}) {
  const channel = new TestChannel();
  const clock = new FakeClock();
  return { channel, clock, connection: new Connection(channel, { ...options, clock }) };
}

const { binary, continuation, text } = OPCODES;
const bytes = (content: string): Buffer => Buffer.from(content);

async function* twoPieces(): AsyncGenerator<string> {
  yield 'a';
  await new Promise(setImmediate);
  yield 'b';
}

async function* brokenSource(): AsyncGenerator<string> {
  yield 'a';
  throw new Error('the disk is gone');
}

describe('sending', () => {
  test('a short message is one frame, a long one pieces of 64 KiB without an empty one at the end', async () => {
    const { channel, connection } = open();
    await connection.send('grüße');
    await connection.send(Buffer.alloc(131_072));
    await connection.send(new Uint8Array(65_537));
    await connection.send('');
    expect(channel.sent.map(({ opcode, fin, bytes: size }) => [opcode, fin, size])).toEqual([
      [text, true, 7],
      [binary, false, 65_536],
      [continuation, true, 65_536],
      [binary, false, 65_536],
      [continuation, true, 1],
      [text, true, 0],
    ]);
  });

  test('resolves when the channel has room again; nothing more goes out before', async () => {
    const { channel, connection } = open();
    channel.isFull = true;
    let isResolved = false;
    const first = connection.send('one').then(() => (isResolved = true));
    const second = connection.send('two');
    await new Promise(setImmediate);
    expect([isResolved, channel.sent.length]).toEqual([false, 1]);
    channel.isFull = false;
    channel.peer.drained?.();
    await Promise.all([first, second]);
    expect(channel.sent.map(({ payload }) => payload)).toEqual(['one', 'two']);
  });

  test('a stream is one message of any length, and messages given meanwhile follow it', async () => {
    const { channel, connection } = open();
    const stream = connection.sendStream(twoPieces(), { isText: true });
    const message = connection.send('after');
    await Promise.all([stream, message, connection.end(1000, 'done')]);
    expect(channel.sent.map(({ opcode, fin, payload }) => [opcode, fin, payload])).toEqual([
      [text, false, 'a'],
      [continuation, false, 'b'],
      [continuation, true, ''],
      [text, true, 'after'],
    ]);
    expect(channel.sentClose).toEqual({ code: 1000, reason: 'done' });
  });

  test('a stream whose source fails breaks the connection', async () => {
    const { channel, connection } = open();
    await expect(connection.sendStream(brokenSource())).rejects.toThrow('the disk is gone');
    expect(channel.isDestroyed).toBe(true);
  });

  test('is refused with Closed after end(), with ConnectionLost after a break, also what waits', async () => {
    const ended = open();
    await ended.connection.end();
    await expect(ended.connection.send('late')).rejects.toMatchObject({ code: 'Closed' });
    const broken = open();
    broken.channel.isFull = true;
    const waiting = [broken.connection.send('a'), broken.connection.send('b')].map(send =>
      send.catch((error: unknown) => error),
    );
    broken.channel.peer.gone(1006);
    expect((await Promise.all(waiting))[1]).toMatchObject({ code: 'ConnectionLost' });
    await expect(broken.connection.send('c')).rejects.toMatchObject({ code: 'ConnectionLost' });
  });

  test.each([999, 1005, 1006, 1015, 2000, 5000, 1000.5])(
    'close code %d is a RangeError',
    async code => {
      const { connection } = open();
      await expect(connection.end(code)).rejects.toThrow(RangeError);
      await expect(connection.close(code)).rejects.toThrow(RangeError);
    },
  );
});

describe('receiving', () => {
  test('puts messages together, and ends with the Close of the peer, which is answered', async () => {
    const { channel, connection } = open();
    channel.peer.fragment(text, false, bytes('gr\xc3').subarray(0, 2));
    channel.peer.fragment(continuation, true, bytes('üße'));
    channel.peer.fragment(binary, true, bytes('b'));
    channel.peer.closed(4001, 'enough');
    expect(channel.sentClose).toBeUndefined();
    const messages: unknown[] = [];
    for await (const message of connection) messages.push(message);
    expect(messages).toEqual([
      { isBinary: false, data: 'grüße' },
      { isBinary: true, data: bytes('b') },
    ]);
    expect(channel.sentClose).toEqual({ code: 4001, reason: 'enough' });
    expect(await connection.closed).toEqual({ code: 4001, reason: 'enough' });
  });

  test('with allowHalfOpen the Close of the peer ends its direction alone', async () => {
    const { channel, connection } = open({ allowHalfOpen: true });
    channel.peer.closed(1000, '');
    expect(await connection.receive()).toBeUndefined();
    expect(channel.sentClose).toBeUndefined();
    await connection.send('still here');
    await connection.end(1000, 'me too');
    expect([channel.sent.length, channel.sentClose?.reason]).toEqual([1, 'me too']);
  });

  test('a Close without a code is answered without one', async () => {
    const { channel, connection } = open();
    channel.peer.closed(1005, '');
    expect(await connection.receive()).toBeUndefined();
    expect(channel.sentClose).toEqual({ code: undefined, reason: '' });
  });

  test('throws ConnectionLost when it breaks, after what came before', async () => {
    const { channel, connection } = open();
    channel.peer.fragment(text, true, bytes('last words'));
    channel.peer.gone(1006);
    expect(await connection.receive()).toMatchObject({ data: 'last words' });
    await expect(connection.receive()).rejects.toMatchObject({ code: 'ConnectionLost' });
    expect(await connection.closed).toEqual({ code: 1006, reason: '' });
  });

  test('throws when the peer closes in the middle of a message', async () => {
    const { channel, connection } = open();
    channel.peer.fragment(text, false, bytes('half'));
    channel.peer.closed(1000, '');
    await expect(connection.receive()).rejects.toMatchObject({ code: 'ConnectionLost' });
  });

  test('a message over the limit is an error and closes with 1009; as fragments it passes', async () => {
    const { channel, connection } = open({ messageBytesMax: 5 });
    channel.peer.fragment(text, false, bytes('123'));
    channel.peer.fragment(continuation, false, bytes('456'));
    await expect(connection.receive()).rejects.toThrow(/longer than messageBytesMax, 5 bytes/);
    expect(channel.sentClose?.code).toBe(1009);
    const other = open({ messageBytesMax: 5 });
    other.channel.peer.fragment(text, false, bytes('123'));
    other.channel.peer.fragment(continuation, true, bytes('456'));
    other.channel.peer.closed(1000, '');
    const fragments: unknown[] = [];
    for await (const { data, isLast } of other.connection.fragments()) {
      fragments.push([data.toString(), isLast]);
    }
    expect(fragments).toEqual([
      ['123', false],
      ['456', true],
    ]);
  });

  test('what nobody reads stops the channel after a megabyte, empty messages too, and reading lets it go on', async () => {
    for (const [size, most] of [
      [65_536, 17],
      [0, 20_000],
    ] as const) {
      const { channel, connection } = open();
      let count = 0;
      while (!channel.isPaused && count <= most) {
        channel.peer.fragment(binary, true, Buffer.alloc(size));
        count += 1;
      }
      expect(channel.isPaused, `${count} messages of ${size} bytes`).toBe(true);
      for (let i = 0; i < count; i += 1) await connection.receive();
      expect(channel.isPaused).toBe(false);
    }
  });

  test('two readers at once are a mistake, one after another are not', async () => {
    const { channel, connection } = open();
    const first = connection.receive();
    await expect(connection.receive()).rejects.toThrow(/being read/);
    channel.peer.fragment(text, true, bytes('one'));
    channel.peer.fragment(text, true, bytes('two'));
    expect(await first).toMatchObject({ data: 'one' });
    for await (const { data } of connection) {
      expect(data).toBe('two');
      break;
    }
    channel.peer.fragment(text, true, bytes('three'));
    expect(await connection.receive()).toMatchObject({ data: 'three' });
  });
});

describe('close()', () => {
  test('throws away what was not read, and waits for the Close of the peer', async () => {
    const { channel, connection, clock } = open();
    while (!channel.isPaused) channel.peer.fragment(binary, true, Buffer.alloc(65_536));
    const closing = connection.close(4000, 'bye');
    expect(channel.isPaused).toBe(false);
    channel.peer.fragment(text, true, bytes('not wanted'));
    channel.peer.closed(4001, 'bye, too');
    expect(await closing).toEqual({ code: 4001, reason: 'bye, too' });
    expect(channel.sentClose).toEqual({ code: 4000, reason: 'bye' });
    expect(await connection.receive()).toBeUndefined();
    expect(clock.pendingTasks).toBe(0);
  });

  test('breaks off when the peer does not answer', async () => {
    const { channel, connection, clock } = open();
    const closing = connection.close();
    clock.advance(10_000);
    expect(await closing).toEqual({ code: 1006, reason: '' });
    expect(channel.isDestroyed).toBe(true);
  });
});

/** Two ends of one connection over a relay. */
async function pair(relay: TestRelay, options: ConnectionOptions = {}) {
  const accepted = new Inbox<RelayConnection>('a connection');
  const listener = await openListener(optionsFor(relay), {
    onConnection: async offer => accepted.put(await offer.accept(options)),
  });
  const sender = await new HybridConnectionClient(optionsFor(relay)).connect(options);
  return {
    sender,
    receiver: await accepted.next(),
    [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
  };
}

describe('over a relay', () => {
  test('half-close: the other direction goes on until its own Close', async () => {
    await using relay = await startRelay();
    await using both = await pair(relay, { allowHalfOpen: true });
    const { sender, receiver } = both;
    await sender.send('a question');
    await sender.end(4001, 'asked');
    expect(await receiver.receive()).toMatchObject({ data: 'a question' });
    expect(await receiver.receive()).toBeUndefined();
    expect(await receiver.closed).toEqual({ code: 4001, reason: 'asked' });
    const answer = Buffer.alloc(2_000_000, 7);
    const sent = receiver.send(answer).then(() => receiver.end(4002, 'answered'));
    const got = await sender.receive();
    await sent;
    expect(got?.isBinary === true && answer.equals(got.data)).toBe(true);
    expect(await sender.receive()).toBeUndefined();
    expect(await sender.closed).toEqual({ code: 4002, reason: 'answered' });
    await within('the ends', Promise.all([sender.gone(), receiver.gone()]));
  });

  test('a reader that does not read holds up the sender, and memory stays bounded', async () => {
    await using relay = await startRelay();
    await using both = await pair(relay);
    const { sender, receiver } = both;
    const message = Buffer.alloc(1_048_576, 1);
    let sentCount = 0;
    const sending = (async () => {
      for (let i = 0; i < 128; i += 1) {
        await sender.send(message);
        sentCount += 1;
      }
      await sender.end();
    })();
    // It stands still when nothing has moved for a while.
    let before = -1;
    await until(
      'the sender stands still',
      async () => {
        const isSame = sentCount === before;
        before = sentCount;
        await new Promise(resolve => void setTimeout(resolve, 100));
        return isSame && sentCount === before;
      },
      20_000,
    );
    expect(sentCount).toBeLessThan(64);
    let received = 0;
    for await (const { data } of receiver) received += data.length;
    await sending;
    expect(received).toBe(128 * message.length);
  });

  test('many senders of long messages at one time do not mix theirs', async () => {
    await using relay = await startRelay();
    await using both = await pair(relay);
    const { sender, receiver } = both;
    const sends = Array.from({ length: 20 }, (_, i) => sender.send(Buffer.alloc(150_000, i)));
    for (let i = 0; i < 20; i += 1) {
      const message = await receiver.receive();
      expect(message?.isBinary === true && message.data.equals(Buffer.alloc(150_000, i))).toBe(
        true,
      );
    }
    await Promise.all(sends);
  });
});

/** A TCP connection through the relay: its two ends. */
async function tcpThroughRelay(relay: TestRelay) {
  const targets = new Inbox<Socket>('a connection at the target');
  const target = createServer({ allowHalfOpen: true }, socket => targets.put(socket));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const listener = await openListener(optionsFor(relay), {
    onConnection: async offer => {
      const duplex = (await offer.accept({ allowHalfOpen: true })).duplex();
      const socket = connect({ port: portOf(target), host: '127.0.0.1', allowHalfOpen: true });
      await Promise.allSettled([pipeline(duplex, socket), pipeline(socket, duplex)]);
    },
  });
  const client = new HybridConnectionClient(optionsFor(relay));
  const connection = await client.connect({ allowHalfOpen: true });
  return {
    connection,
    near: connection.duplex(),
    far: await targets.next(),
    [Symbol.asyncDispose]: async () => {
      target.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

describe('duplex()', () => {
  test('carries TCP with its half-close', async () => {
    await using relay = await startRelay();
    await using tcp = await tcpThroughRelay(relay);
    const { near, far } = tcp;
    const question = Buffer.alloc(3_000_000, 'q');
    near.end(question);
    let asked = 0;
    for await (const chunk of far.iterator({ destroyOnReturn: false }))
      asked += Buffer.from(chunk).length;
    expect(asked).toBe(question.length);
    far.end(Buffer.alloc(3_000_000, 'a'));
    let answered = 0;
    for await (const chunk of near) answered += Buffer.from(chunk).length;
    expect(answered).toBe(3_000_000);
    await within('the end', tcp.connection.gone());
    expect(await tcp.connection.closed).toEqual({ code: 1000, reason: '' });
  });

  test('a reset at one end is an error at the other, not an end', async () => {
    await using relay = await startRelay();
    await using tcp = await tcpThroughRelay(relay);
    const { near, far } = tcp;
    near.write('hello');
    await once(far, 'data');
    const failed = once(near, 'error');
    near.resume();
    far.resetAndDestroy();
    expect((await within('an error', failed))[0]).toMatchObject({ code: 'ConnectionLost' });
  });

  test('a close of the peer with another code than 1000 is an error', async () => {
    const { channel, connection } = open();
    const duplex = connection.duplex();
    const failed = once(duplex, 'error');
    duplex.resume();
    channel.peer.fragment(binary, true, bytes('some'));
    channel.peer.closed(1011, 'stalled');
    expect((await failed)[0]).toMatchObject({
      code: 'ConnectionLost',
      message: expect.stringMatching('1011 stalled'),
    });
    expect(channel.isDestroyed).toBe(true);
  });

  test('empty messages are no end', async () => {
    const { channel, connection } = open();
    const duplex = connection.duplex();
    channel.peer.fragment(binary, true, Buffer.alloc(0));
    channel.peer.fragment(binary, true, bytes('a'));
    channel.peer.fragment(text, true, bytes('b'));
    channel.peer.closed(1005, '');
    const chunks: Buffer[] = [];
    for await (const chunk of duplex) chunks.push(Buffer.from(chunk));
    expect(Buffer.concat(chunks).toString()).toBe('ab');
  });

  test('reads as it is asked, whichever way that is done', async () => {
    const { channel, connection } = open();
    const duplex = connection.duplex();
    const seen: number[] = [];
    duplex.on('readable', () => {
      for (let chunk: unknown = duplex.read(); chunk !== null; chunk = duplex.read()) {
        if (Buffer.isBuffer(chunk)) seen.push(chunk.length);
      }
    });
    for (let i = 0; i < 500; i += 1) {
      channel.peer.fragment(binary, true, Buffer.alloc(3_000));
      if (i % 7 === 0) await new Promise(setImmediate);
    }
    channel.peer.closed(1000, '');
    await once(duplex, 'end');
    expect(seen.reduce((sum, size) => sum + size, 0)).toBe(1_500_000);
  });
});
