import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { encodeFrame, OPCODES } from '../../src/protocol/frames.ts';
import { dialSender, joinPair, openListener, type RawPair } from '../support/azure-clients.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import type { RawWebSocket } from '../support/raw-websocket.ts';
import { startRelay, type TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

/** Longest frame that Java's client takes. */
const FRAME_BYTES_MAX = 65_536;

/** Codes that not every data plane passes on. */
const SOME_PLANES_CODES: [number, string][] = [
  [1012, 'restart'],
  [3000, ''],
];

const UNMASKED: [string, Uint8Array][] = [
  ['an unmasked frame', encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('x') })],
];

const SIDES = ['sender', 'listener'] as const;
type Side = (typeof SIDES)[number];

/** Who speaks, and who hears it. */
function sidesOf(pair: RawPair, from: Side): { own: RawWebSocket; other: RawWebSocket } {
  return from === 'sender'
    ? { own: pair.sender, other: pair.listener }
    : { own: pair.listener, other: pair.sender };
}

async function untilForgotten(relay: TestRelay): Promise<void> {
  await until('the pair is forgotten', () => relay.server.status().senders === 0);
}

describe.each(DATA_PLANES)('a joined pair on $dataPlane', ({ dataPlane, promises }) => {
  const start = (options = {}): Promise<TestRelay> => startRelay({ dataPlane, ...options });

  /** A test of what only some planes promise. */
  const promised = (what: Parameters<typeof promises.has>[0]): typeof test | (() => void) =>
    promises.has(what) ? test : (): void => {};

  test.each(SIDES)('carries messages of every type and size from the %s', async from => {
    await using relay = await start();
    const { own, other } = sidesOf(await joinPair(relay), from);
    const sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 131_073, 1_048_576];
    for (const size of sizes) {
      for (const opcode of [OPCODES.text, OPCODES.binary]) {
        const payload = opcode === OPCODES.text ? Buffer.alloc(size, 'text') : randomBytes(size);
        own.send(payload, { opcode });
        const message = await other.nextMessage();
        expect(message.opcode).toBe(opcode);
        expect(message.payload.equals(payload), `${size} bytes`).toBe(true);
      }
    }
  });

  test('sends no frame longer than Java takes, and no empty one that nobody sent', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    for (const size of [FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 300_000]) {
      sender.send(randomBytes(size));
      const lengths: number[] = [];
      for (let isFinal = false; !isFinal;) {
        const frame = await listener.nextFrame();
        lengths.push(frame.payload.length);
        ({ isFinal } = frame);
      }
      expect(Math.max(...lengths)).toBeLessThanOrEqual(FRAME_BYTES_MAX);
      expect(Math.min(...lengths)).toBeGreaterThan(0);
    }
  });

  test('keeps the order of many messages that cross one another', async () => {
    await using relay = await start();
    const pair = await joinPair(relay);
    const count = 2_000;
    const all = Array.from({ length: count }, (_, i) => `message ${i}`);
    for (const text of all) {
      pair.sender.send(text);
      pair.listener.send(text);
    }
    for (const socket of [pair.sender, pair.listener]) {
      for (const text of all) expect(await socket.nextText()).toBe(text);
    }
  });

  test('delivers what the listener says right behind its handshake', async () => {
    await using relay = await start();
    const control = await openListener(relay);
    const dialling = dialSender(relay);
    const listener = await control.acceptNext();
    listener.send('first');
    listener.send('second');
    const { socket: sender } = await dialling.answer;
    expect(await sender?.nextText()).toBe('first');
    expect(await sender?.nextText()).toBe('second');
  });

  test.each<[number, string]>([
    [1000, 'CloseAsync'],
    [1000, ''],
    [1001, 'From Test Code'],
    [1011, 'x'.repeat(123)],
    [4000, 'grüße'],
    [4999, ''],
    ...SOME_PLANES_CODES.filter(() => promises.has('all close codes')),
  ])('passes a Close on with its code %i and reason %j, and ends both', async (code, reason) => {
    await using relay = await start();
    for (const from of SIDES) {
      const { own, other } = sidesOf(await joinPair(relay), from);
      own.sendClose(code, reason);
      expect(await other.nextClose()).toEqual({ code, reason });
      other.sendClose(code, reason);
      expect(await own.nextClose()).toEqual({ code, reason });
      own.fin();
      other.fin();
      await own.ended();
      await other.ended();
      await untilForgotten(relay);
    }
    expect(await relay.metric('halfway_sender_disconnects_total{reason="close"}')).toBe(2);
  });

  test('passes a Close without a code on without one', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    sender.sendClose();
    const frame = await listener.nextFrame();
    expect(frame).toMatchObject({ opcode: OPCODES.close });
    expect(frame.payload).toHaveLength(0);
  });

  test('gives no clean end to a message that was cut in the middle', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    const frame = encodeFrame({ opcode: OPCODES.binary, payload: randomBytes(1_000), mask: 7 });
    sender.sendRaw(frame.subarray(0, 500));
    await sender.flushed();
    sender.fin();
    await listener.ended();
    expect(listener.payloadBytes).toBe(0);
    listener.fin();
    await untilForgotten(relay);
  });

  test.each<[string, Uint8Array]>([
    // uWebSockets.js itself, which reads the frames in the fallback, does not look at the mask bit.
    ...UNMASKED.filter(() => promises.has('violations are answered')),
    ['a reserved opcode', encodeFrame({ opcode: 3, payload: Buffer.from('x'), mask: 1 })],
    ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0])],
    ['a continuation of nothing', encodeFrame({ opcode: 0, payload: Buffer.from('x'), mask: 1 })],
    ['a long ping', encodeFrame({ opcode: OPCODES.ping, payload: Buffer.alloc(126), mask: 1 })],
    [
      'a fragmented ping',
      encodeFrame({ opcode: OPCODES.ping, payload: Buffer.alloc(1), mask: 1, isFinal: false }),
    ],
    ['no frames at all', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
  ])('ends when one sends %s, and no other pair notices', async (_what, bytes) => {
    await using relay = await start();
    const bystander = await joinPair(relay);
    for (const from of SIDES) {
      const { own, other } = sidesOf(await joinPair(relay), from);
      own.send('before');
      own.sendRaw(bytes);
      own.send('after');
      expect(await other.nextText()).toBe('before');
      const { code } = await other.nextClose();
      if (promises.has('violations are answered')) {
        expect(code).toBe(1002);
        expect(await own.nextClose()).toMatchObject({ code: 1002 });
      } else {
        expect(code).toBe(1001);
      }
      own.fin();
      other.fin();
      await own.ended();
      await other.ended();
    }
    bystander.sender.send('all is well');
    expect(await bystander.listener.nextText()).toBe('all is well');
    await until('only the bystander is left', () => relay.server.status().senders === 1);
  });

  promised('violations are answered')(
    'ends with 1009 when a message is longer than the operator allows',
    async () => {
      await using relay = await start({ messageBytesMax: 1_000 });
      const { sender, listener } = await joinPair(relay);
      sender.send(Buffer.alloc(1_000));
      expect((await listener.nextMessage()).payload).toHaveLength(1_000);
      sender.send(Buffer.alloc(600), { fin: false });
      sender.send(Buffer.alloc(401), { opcode: OPCODES.continuation });
      expect(await sender.nextClose()).toMatchObject({ code: 1009 });
    },
  );

  promised('ping and pong through')('passes pings and pongs on, and answers none', async () => {
    await using relay = await start();
    const pair = await joinPair(relay);
    for (const from of SIDES) {
      const { own, other } = sidesOf(pair, from);
      for (const opcode of [OPCODES.ping, OPCODES.pong]) {
        own.send(`${from} ${opcode}`, { opcode });
        const frame = await other.nextFrame();
        expect(frame.opcode).toBe(opcode);
        expect(Buffer.from(frame.payload).toString()).toBe(`${from} ${opcode}`);
      }
      expect(own.waitingFrames).toBe(0);
    }
  });

  if (!promises.has('ping and pong through')) {
    test('answers pings itself, takes pongs nobody asked for, and passes neither on', async () => {
      await using relay = await start();
      const { sender, listener } = await joinPair(relay);
      sender.send('are you there', { opcode: OPCODES.ping });
      sender.send('keep-alive', { opcode: OPCODES.pong });
      const frame = await sender.nextFrame();
      expect(frame.opcode).toBe(OPCODES.pong);
      expect(Buffer.from(frame.payload).toString()).toBe('are you there');
      sender.send('text');
      expect(await listener.nextText()).toBe('text');
    });
  }

  promised('fragments')('passes fragments on as they come', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    const steps: [string, { opcode: number; fin: boolean }][] = [
      ['a', { opcode: OPCODES.text, fin: false }],
      ['b', { opcode: OPCODES.continuation, fin: false }],
      ['?', { opcode: OPCODES.ping, fin: true }],
      ['', { opcode: OPCODES.continuation, fin: false }],
      ['', { opcode: OPCODES.continuation, fin: true }],
    ];
    for (const [payload, { opcode, fin }] of steps) {
      sender.send(payload, { opcode, fin });
      // Before the next one is even sent.
      const frame = await listener.nextFrame();
      expect([Buffer.from(frame.payload).toString(), frame.opcode, frame.isFinal]).toEqual([
        payload,
        opcode,
        fin,
      ]);
    }
  });

  promised('fragments')('passes the start of a long frame on before its end is sent', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    const payload = randomBytes(FRAME_BYTES_MAX + 10);
    const frame = encodeFrame({ opcode: OPCODES.binary, payload, mask: 0x01_02_03_04 });
    sender.sendRaw(frame.subarray(0, -10));
    const first = await listener.nextFrame();
    expect(first).toMatchObject({ opcode: OPCODES.binary, isFinal: false });
    sender.sendRaw(frame.subarray(-10));
    const second = await listener.nextFrame();
    expect(second).toMatchObject({ opcode: OPCODES.continuation, isFinal: true });
    expect(Buffer.concat([first.payload, second.payload]).equals(payload)).toBe(true);
  });

  // hyco-https answers in fragments of one byte, tens of thousands of them to a message.
  test('carries a message of 66,560 fragments of one byte', async () => {
    await using relay = await start();
    const { sender, listener } = await joinPair(relay);
    const payload = randomBytes(66_560);
    for (let i = 0; i < payload.length; i += 1) {
      listener.send(payload.subarray(i, i + 1), {
        opcode: i === 0 ? OPCODES.binary : OPCODES.continuation,
        fin: i === payload.length - 1,
      });
    }
    expect((await sender.nextMessage()).payload.equals(payload)).toBe(true);
  });

  for (const from of SIDES) {
    promised('half-close')(
      `lets the other side finish after the Close of the ${from}`,
      async () => {
        await using relay = await start();
        const { own, other } = sidesOf(await joinPair(relay), from);
        own.sendClose(1000, 'Shutdown');
        expect(await other.nextClose()).toEqual({ code: 1000, reason: 'Shutdown' });
        for (let i = 0; i < 300; i += 1) {
          other.send(`after ${i}`);
          expect(await own.nextText()).toBe(`after ${i}`);
        }
        expect([own.isEnded, other.isEnded]).toEqual([false, false]);
        other.sendClose(1000, 'CloseAsync');
        expect(await own.nextClose()).toEqual({ code: 1000, reason: 'CloseAsync' });
        own.fin();
        other.fin();
        await own.ended();
        await other.ended();
        await untilForgotten(relay);
      },
    );
  }

  promised('half-close')(
    'lets the other side finish even after TCP ended behind the Close',
    async () => {
      await using relay = await start();
      const { sender, listener } = await joinPair(relay);
      sender.sendClose(1000, 'Shutdown');
      sender.fin();
      expect(await listener.nextClose()).toEqual({ code: 1000, reason: 'Shutdown' });
      listener.send('still on the way');
      expect(await sender.nextText()).toBe('still on the way');
      listener.sendClose(1000, 'done');
      expect(await sender.nextClose()).toEqual({ code: 1000, reason: 'done' });
      await sender.ended();
    },
  );

  if (!promises.has('half-close')) {
    test('answers a Close at once with the same code', async () => {
      await using relay = await start();
      const { sender, listener } = await joinPair(relay);
      sender.sendClose(1000, 'Shutdown');
      expect(await sender.nextClose()).toEqual({ code: 1000, reason: 'Shutdown' });
      expect(await listener.nextClose()).toEqual({ code: 1000, reason: 'Shutdown' });
      await untilForgotten(relay);
    });
  }

  promised('back-pressure')(
    'stops a writer whose reader stands still, and loses nothing',
    async () => {
      await using relay = await start();
      const { sender, listener } = await joinPair(relay);
      const bystander = await joinPair(relay);
      listener.pause();
      const chunk = randomBytes(60_000);
      const sent = createHash('sha256');
      const count = 700;
      for (let i = 0; i < count; i += 1) {
        chunk.writeUInt32BE(i);
        sent.update(chunk);
        sender.send(Buffer.from(chunk));
      }
      await until(
        'the relay stops reading',
        async () => (await relay.metric('halfway_paused_sockets')) > 0,
      );
      // Far less than what was sent is in the relay and in the buffers of the system.
      expect(sender.unsentBytes).toBeGreaterThan(20_000_000);
      expect(await relay.metric('halfway_backpressure_bytes')).toBeLessThan(4_000_000);
      bystander.sender.send('quick');
      expect(await bystander.listener.nextText()).toBe('quick');
      // The other direction is not held up.
      listener.send('from the one that does not read');
      expect(await sender.nextText()).toBe('from the one that does not read');

      listener.resume();
      const received = createHash('sha256');
      for (let i = 0; i < count; i += 1) received.update((await listener.nextMessage()).payload);
      expect(received.digest('hex')).toBe(sent.digest('hex'));
    },
  );

  test('is forgotten when its reader stands still and then is lost', async () => {
    await using relay = await start({ fallbackQueueBytesMax: 32_000_000 });
    const { sender, listener } = await joinPair(relay);
    listener.pause();
    for (let i = 0; i < 300; i += 1) sender.send(randomBytes(60_000));
    await until('the sender is held back or queued', async () =>
      dataPlane === 'native'
        ? (await relay.metric('halfway_paused_sockets')) > 0
        : sender.unsentBytes === 0,
    );
    await listener.reset();
    expect(await sender.nextClose()).toMatchObject({ code: 1001 });
    sender.fin();
    await untilForgotten(relay);
  });

  if (!promises.has('back-pressure')) {
    test('ends with 1011 when more waits for a reader than the queue holds', async () => {
      await using relay = await start({ fallbackQueueBytesMax: 100_000 });
      const { sender, listener } = await joinPair(relay);
      listener.pause();
      for (let i = 0; i < 300; i += 1) sender.send(randomBytes(60_000));
      // What the writer is told, joined-pairs-direct asks: HAProxy resets a client that still writes as soon as the
      // relay has ended its own direction, and Node, whose write fails, then does not read what came before.
      await until(
        'the queue overflows',
        async () => (await relay.metric('halfway_fallback_overflows_total')) === 1,
      );
      await sender.ended();
      sender.fin();
      listener.resume();
      // All that was taken in still arrives, and then the same end.
      let close: { code: number } | undefined;
      while (close === undefined) {
        const frame = await listener.nextFrame();
        if (frame.opcode === OPCODES.close)
          close = {
            code: frame.payload[0] === undefined ? 1005 : Buffer.from(frame.payload).readUInt16BE(),
          };
      }
      expect(close.code).toBe(1011);
      listener.fin();
      await untilForgotten(relay);
    });

    test('ends when a message is longer than the fallback holds', async () => {
      await using relay = await start({ fallbackMessageBytesMax: 100_000 });
      const { sender, listener } = await joinPair(relay);
      sender.send(Buffer.alloc(100_000));
      expect((await listener.nextMessage()).payload).toHaveLength(100_000);
      sender.send(Buffer.alloc(100_001));
      expect(await listener.nextClose()).toMatchObject({ code: 1001 });
      await sender.ended();
    });
  }
});
