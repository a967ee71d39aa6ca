import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { OPCODES } from '../../src/protocol/frames.ts';
import type { FrameReceiver, LegHandle } from '../../src/transports/native-plane.ts';
import { FrameClient } from '../support/frame-client.ts';
import {
  connection,
  descriptorOf,
  startNativeRelay,
  type NativeRelay,
} from '../support/native-relay.ts';
import { STREAM_WINDOW_BYTES, TRUNK, trunkFrame } from '../support/trunk-end.ts';
import { until, within } from '../support/within.ts';

const HALF_MEBIBYTE = 512 * 1024;

/** What pairs on a trunk are to each other; what one pair on it does is in the other suites, as kind `stream`. */
describe('a trunk', () => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterEach(async () => {
    await relay.cutAll();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });

  test('carries many pairs at once, each its own bytes', async () => {
    const pairs = await Promise.all(
      Array.from({ length: 40 }, () => relay.pair({ kinds: ['stream', 'websocket'] })),
    );
    pairs.forEach(({ a, b }, i) => {
      for (let n = 0; n < 20; n += 1) {
        a.sendText(`to ${i}, ${n}`);
        b.send(OPCODES.binary, new Uint8Array(i * 1_000 + n).fill(i));
      }
    });
    for (const [i, { a, b }] of pairs.entries()) {
      for (let n = 0; n < 20; n += 1) {
        expect(await b.nextText()).toBe(`to ${i}, ${n}`);
        const frame = await a.next();
        const expected = Buffer.alloc(i * 1_000 + n, i);
        expect(expected.equals(frame?.payload ?? Buffer.alloc(1)), `frame ${n} of ${i}`).toBe(true);
      }
    }
  });

  test.each(['stream', 'websocket'] as const)(
    'goes on for others when a %s of one pair takes nothing',
    async kind => {
      const kinds =
        kind === 'stream' ? (['websocket', 'stream'] as const) : (['stream', 'websocket'] as const);
      const stalled = await relay.pair({ kinds });
      const live = await relay.pair({ kinds });
      stalled.b.socket.pause();
      const noise = new Uint8Array(HALF_MEBIBYTE);
      for (let i = 0; i < 24; i += 1) stalled.a.send(OPCODES.binary, noise);
      await until('it is paused', () => {
        const { pausedLegs } = relay.plane.stats();
        return pausedLegs === 1 || stalled.a.socket.writableLength > 4 * HALF_MEBIBYTE;
      });
      expect(relay.plane.stats().queuedBytes).toBeLessThanOrEqual(2 * STREAM_WINDOW_BYTES);
      for (let i = 0; i < 20; i += 1) {
        live.a.sendText(`there ${i}`);
        expect(await live.b.nextText()).toBe(`there ${i}`);
        live.b.sendText(`back ${i}`);
        expect(await live.a.nextText()).toBe(`back ${i}`);
      }
      stalled.b.socket.resume();
      let bytes = 0;
      while (bytes < 24 * HALF_MEBIBYTE) bytes += (await stalled.b.next())?.payload.length ?? 0;
      expect(bytes).toBe(24 * HALF_MEBIBYTE);
    },
  );

  test('that is lost takes all its streams with it, and tells their clients', async () => {
    const pairs = [
      await relay.pair({ kinds: ['stream', 'websocket'] }),
      await relay.pair({ kinds: ['stream', 'websocket'] }),
    ];
    const parked = await relay.of('stream');
    const trunk = await relay.trunk();
    trunk.socket.resetAndDestroy();
    for (const { b, ended } of pairs) {
      expect((await b.nextClose()).code).toBe(1001);
      b.fin();
      expect((await within('the end', ended)).a.cause).toBe('lost');
    }
    await until('the parked one is gone', () => relay.plane.legStats(parked.leg) === undefined);
  });

  test('a stream whose client is gone is over at the other node, whatever it still sends', async () => {
    const { a, b, legB, ended } = await relay.pair({ kinds: ['stream', 'websocket'] });
    relay.plane.destroy(legB);
    expect((await a.nextClose()).code).toBe(1001);
    await a.nextEnd();
    a.send(OPCODES.binary, new Uint8Array(3 * STREAM_WINDOW_BYTES));
    a.fin();
    await within('the end', ended);
    b.reset();
    const next = await relay.pair({ kinds: ['stream', 'websocket'] });
    next.a.sendText('the trunk is well');
    expect(await next.b.nextText()).toBe('the trunk is well');
  });

  test('delivers a stream to JavaScript whole, whatever else comes with it', async () => {
    const one = await relay.of('stream');
    const other = await relay.pair({ kinds: ['stream', 'websocket'] });
    const got: Buffer[] = [];
    const receiver: FrameReceiver = {
      chunk: (_first, _isFirst, _isLast, payload) => void got.push(Buffer.from(payload)),
      drain() {},
      closeFrame() {},
      error() {},
      gone() {},
    };
    expect(relay.plane.deliver(one.leg, receiver)).toBe(true);
    relay.plane.resume(one.leg);
    const payload = Buffer.from(
      Uint8Array.from({ length: 3_000_000 }, (_, i) => i * 31 + (i >> 9)),
    );
    one.client.send(OPCODES.binary, payload);
    for (let i = 0; i < 50; i += 1) other.a.sendText(`between ${i}`);
    for (let i = 0; i < 50; i += 1) expect(await other.b.nextText()).toBe(`between ${i}`);
    await until(
      'all has come',
      () => got.reduce((sum, part) => sum + part.length, 0) === 3_000_000,
    );
    expect(Buffer.concat(got).equals(payload)).toBe(true);
  });

  test('opens streams, each told with its record', async () => {
    const [nearby, remote] = [await connection(), await connection()];
    const gone: string[] = [];
    const told: { leg: LegHandle; record: string }[] = [];
    // Both ends in this process: two connections whose far ends are joined by hand.
    const a = relay.plane.makeTrunk(descriptorOf(nearby.near), new Uint8Array(0), true, {
      opened: () => {},
      gone: () => void gone.push('a'),
    });
    const b = relay.plane.makeTrunk(descriptorOf(remote.near), new Uint8Array(0), false, {
      opened: (leg, record) => void told.push({ leg, record: Buffer.from(record).toString() }),
      gone: () => void gone.push('b'),
    });
    nearby.near.destroy();
    remote.near.destroy();
    nearby.far.pipe(remote.far).pipe(nearby.far);
    expect(relay.plane.openStream(b, Buffer.from('not by this side'))).toBe(0);
    expect(relay.plane.openStream(a, new Uint8Array(16 * 1_024 + 1))).toBe(0);
    const legs = ['first', 'second'].map(record => relay.plane.openStream(a, Buffer.from(record)));
    await until('both are told', () => told.length === 2);
    expect(told.map(({ record }) => record)).toEqual(['first', 'second']);
    const [client, partner] = [await relay.park(), await relay.park()];
    relay.splice(client.leg, legs[1] ?? 0);
    relay.splice(told[1]?.leg ?? 0, partner.leg);
    client.client.sendText('through both');
    expect(await partner.client.nextText()).toBe('through both');
    partner.client.send(OPCODES.binary, new Uint8Array(300_000).fill(7));
    let bytes = 0;
    while (bytes < 300_000) bytes += (await client.client.next())?.payload.length ?? 0;
    relay.plane.destroyTrunk(a);
    relay.plane.destroyTrunk(a);
    expect((await client.client.nextClose()).code).toBe(1001);
    expect((await partner.client.nextClose()).code).toBe(1001);
    await until('both are gone', () => gone.length === 2);
    expect(relay.plane.openStream(a, Buffer.from('too late'))).toBe(0);
  });

  test.each<readonly [string, () => Buffer]>([
    [
      'more than the window',
      () =>
        Buffer.concat(
          Array.from({ length: 3 }, () => trunkFrame(1, TRUNK.data, new Uint8Array(HALF_MEBIBYTE))),
        ),
    ],
    ['more credit than there is', () => trunkFrame(1, TRUNK.credit, Uint8Array.of(0, 0, 0, 1))],
    ['credit that is no number', () => trunkFrame(1, TRUNK.credit, Uint8Array.of(0, 0, 1))],
    ['a stream out of order', () => trunkFrame(3, TRUNK.open, Uint8Array.of(1))],
    ['a stream that is there', () => trunkFrame(1, TRUNK.open, Uint8Array.of(1))],
    ['a record that is too long', () => trunkFrame(2, TRUNK.open, new Uint8Array(16 * 1_024 + 1))],
    ['what is no frame', () => trunkFrame(1, 77)],
  ])('is cut for %s, and only it', async (_name, bytes) => {
    const { near, far } = await connection();
    let isGone = false;
    const opened = new Promise<LegHandle>(resolve => {
      relay.plane.makeTrunk(
        descriptorOf(near),
        trunkFrame(1, TRUNK.open, Buffer.from('x')),
        false,
        {
          opened: resolve,
          gone: () => {
            isGone = true;
          },
        },
      );
    });
    near.destroy();
    const leg = await within('the stream in the head', opened);
    const bystander = await relay.pair({ kinds: ['stream', 'websocket'] });
    far.on('error', () => {});
    far.write(bytes());
    await until('it is gone', () => isGone);
    await until('so is its stream', () => relay.plane.legStats(leg) === undefined);
    bystander.a.sendText('not touched');
    expect(await bystander.b.nextText()).toBe('not touched');
    far.destroy();
  });

  test('a connection that is none is refused', () => {
    const handlers = { opened: () => {}, gone: () => {} };
    expect(relay.plane.makeTrunk(1_000_000, new Uint8Array(0), true, handlers)).toBe(0);
  });

  test('reads a frame however it is cut', async () => {
    const { near, far } = await connection();
    const opened = new Promise<LegHandle>(resolve => {
      relay.plane.makeTrunk(descriptorOf(near), new Uint8Array(0), false, {
        opened: resolve,
        gone: () => {},
      });
    });
    near.destroy();
    const message = Buffer.from(Uint8Array.from({ length: 700 }, (_, i) => i));
    const frame = (await relay.of('stream')).client.frame(OPCODES.binary, message);
    const bytes = Buffer.concat([
      trunkFrame(1, TRUNK.open, Buffer.from('x')),
      ...Array.from(frame, byte => trunkFrame(1, TRUNK.data, Uint8Array.of(byte))),
    ]);
    for (let at = 0; at < bytes.length; at += 61) {
      far.write(bytes.subarray(at, at + 61));
      await relay.settled();
    }
    const partner = await relay.park();
    relay.splice(await within('the stream', opened), partner.leg);
    const got = await partner.client.next();
    expect(Buffer.from(got?.payload ?? []).equals(message)).toBe(true);
    far.destroy();
    expect(partner.client).toBeInstanceOf(FrameClient);
  });
});
