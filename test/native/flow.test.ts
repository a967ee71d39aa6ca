import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, OPCODES } from '../../src/protocol/frames.ts';
import type { FrameClient } from '../support/frame-client.ts';
import {
  startNativeRelay,
  type LegKind,
  type NativeRelay,
  type TestPair,
} from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

const MEBIBYTE = 1024 * 1024;

/** How long the readers of these tests stand still. The server must do nothing meanwhile. */
const STALL_MS = 2_000;

/** Writes frames until the relay takes no more for now; returns their payload bytes. */
async function fill(client: FrameClient, frameBytes = 60_000): Promise<number> {
  const frame = client.frame(OPCODES.binary, Buffer.alloc(frameBytes, 'f'));
  let written = 0;
  let taken = -1;
  // Nothing was taken during several rounds of the loop that all share: the way is full.
  for (let idle = 0; idle < 10;) {
    if (client.socket.writableLength < MEBIBYTE) {
      client.write(frame);
      written += frameBytes;
    }
    await new Promise(resolve => void setImmediate(resolve));
    idle = client.socket.bytesWritten - client.socket.writableLength === taken ? idle + 1 : 0;
    taken = client.socket.bytesWritten - client.socket.writableLength;
  }
  return written;
}

async function readBytes(client: FrameClient, bytes: number): Promise<void> {
  for (let left = bytes; left > 0;) {
    const frame = await client.next('data', 10_000);
    if (frame === undefined) throw new Error(`The end with ${left} bytes to come`);
    if (frame.payload.some(byte => byte !== 102)) throw new Error('Wrong bytes');
    left -= frame.payload.length;
  }
}

const COURSES: readonly (readonly [LegKind, LegKind])[] = [
  ['websocket', 'websocket'],
  ['raw', 'websocket'],
  ['websocket', 'raw'],
];

describe.each(COURSES)('flow from %s to %s', (...kinds) => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    await relay.cutAll();
  });
  const pair = (): Promise<TestPair> => relay.pair({ kinds });

  test('a reader that stands still costs bounded memory and no CPU, and then gets every byte', async () => {
    const { a, b, legA } = await pair();
    b.socket.pause();
    const rssBefore = process.memoryUsage.rss();
    const written = await fill(a);
    const cpuBefore = process.cpuUsage();
    await new Promise(resolve => void setTimeout(resolve, STALL_MS));
    const cpu = process.cpuUsage(cpuBefore);
    const stats = relay.plane.stats();
    expect(relay.plane.legStats(legA)?.isPaused).toBe(true);
    expect(stats.pausedLegs).toBe(1);
    expect(stats.queuedBytes).toBeGreaterThan(0);
    expect(stats.queuedBytes).toBeLessThanOrEqual(2 * MEBIBYTE);
    expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(64 * MEBIBYTE);
    expect((cpu.user + cpu.system) / 1000, 'ms of CPU while all stand still').toBeLessThan(
      STALL_MS / 4,
    );
    b.socket.resume();
    await readBytes(b, written);
    expect(relay.plane.stats()).toMatchObject({ pausedLegs: 0, queuedBytes: 0 });
  });

  test('a reader that stands still does not hold up another pair', async () => {
    const slow = await pair();
    slow.b.socket.pause();
    await fill(slow.a);
    const { a, b } = await pair();
    for (let i = 0; i < 100; i += 1) {
      a.sendText(`${i}`);
      expect(await b.nextText()).toBe(`${i}`);
    }
  });

  test('both directions full at once, then both empty', async () => {
    const { a, b } = await pair();
    a.socket.pause();
    b.socket.pause();
    const [fromA, fromB] = await Promise.all([fill(a), fill(b)]);
    expect(relay.plane.stats().pausedLegs).toBe(2);
    expect(relay.plane.stats().queuedBytes).toBeLessThanOrEqual(4 * MEBIBYTE);
    a.socket.resume();
    b.socket.resume();
    await Promise.all([readBytes(b, fromA), readBytes(a, fromB)]);
    expect(relay.plane.stats()).toMatchObject({ pausedLegs: 0, queuedBytes: 0 });
  });

  test('a source that is reset while it is paused: what was read is still delivered', async () => {
    const { a, b, ended } = await pair();
    b.socket.pause();
    await fill(a);
    const queued = relay.plane.stats().queuedBytes;
    a.reset();
    await until('noticed', () => {
      relay.plane.sweep();
      return relay.plane.stats().pausedLegs === 0;
    });
    expect(relay.plane.stats().queuedBytes).toBeGreaterThanOrEqual(queued);
    b.socket.resume();
    let bytes = 0;
    for (let frame = await b.next(); frame !== undefined; frame = await b.next()) {
      if (frame.opcode === OPCODES.binary) bytes += frame.payload.length;
      else expect(frame.opcode).toBe(OPCODES.close);
    }
    expect(bytes).toBeGreaterThanOrEqual(Math.floor(queued / 60_004) * 60_000);
    b.fin();
    const end = await within('the end', ended);
    expect(end.a.cause).toBe('lost');
    expect(end.bytesFromA).toBeGreaterThanOrEqual(bytes);
  });

  test('a sink that is reset while both stand still', async () => {
    const { a, b, ended } = await pair();
    b.socket.pause();
    await fill(a);
    b.reset();
    a.fin();
    const end = await within('the end', ended);
    expect([end.first, end.b.cause]).toEqual(['b', 'lost']);
    await a.ended;
  });

  test('a sink that is reset while nothing is under way is told to the source', async () => {
    const { a, b } = await pair();
    b.reset();
    expect((await a.nextClose()).code).toBe(1001);
    a.fin();
    await relay.empty();
  });

  test('writing to a reader that has gone ends the pair', async () => {
    const { a, b, ended } = await pair();
    // B closes without reading what is there: the kernel answers the next write with a reset.
    b.socket.pause();
    a.sendText('unread');
    await relay.settled();
    b.socket.destroy();
    a.sendText('into the void');
    a.sendText('and again');
    expect((await a.nextClose()).code).toBe(1001);
    a.fin();
    expect((await within('the end', ended)).first).toBe('b');
  });

  if (!kinds.includes('raw')) {
    test('clients that never send FIN are cut after the linger time', async () => {
      relay.plane.configure({ lingerMs: 10_000 });
      const { a, b, ended } = await pair();
      a.sendClose(1000);
      await b.nextClose();
      b.sendClose(1000);
      await a.nextClose();
      await Promise.all([a.nextEnd(), b.nextEnd()]);
      const { lingeredTotal } = relay.plane.stats();
      relay.plane.sweep(100_000);
      relay.plane.sweep(109_999);
      await relay.settled();
      expect(relay.plane.stats()).toMatchObject({ legs: 2, lingeredTotal });
      // A late acknowledgement of FIN counts as progress, once.
      for (const nowMs of [110_000, 120_000, 130_000]) relay.plane.sweep(nowMs);
      const end = await within('the end', ended);
      expect([end.a.lingered, end.b.lingered]).toEqual([true, true]);
      expect(relay.plane.stats().lingeredTotal).toBe(lingeredTotal + 2);
      a.fin();
      b.fin();
    });

    test('a slow reader in the finishing state is left alone while it takes something', async () => {
      const { a, b, ended } = await pair();
      b.socket.pause();
      const written = await fill(a);
      a.write(a.frame(OPCODES.close, encodeClosePayload(1000)));
      b.sendClose(1000);
      await a.nextClose();
      a.fin();
      // Ten times the linger time goes by, in steps that see some progress each.
      let bytes = 0;
      for (let nowMs = 0; nowMs < 100_000; nowMs += 9_000) {
        relay.plane.sweep(nowMs);
        b.socket.resume();
        bytes += (await b.next())?.payload.length ?? 0;
        b.socket.pause();
        await relay.settled();
      }
      expect(relay.plane.stats().legs).toBeGreaterThan(0);
      b.socket.resume();
      await readBytes(b, written - bytes);
      expect((await b.nextClose()).code).toBe(1000);
      await b.nextEnd();
      b.fin();
      expect((await within('the end', ended)).b.lingered).toBe(false);
    });

    test('a slow reader in the finishing state that stops is cut', async () => {
      const { a, b, ended } = await pair();
      b.socket.pause();
      await fill(a);
      a.reset();
      await until('finishing', () => {
        relay.plane.sweep(0);
        return relay.plane.stats().pausedLegs === 0;
      });
      for (const nowMs of [1_000, 11_000, 21_000, 31_000]) relay.plane.sweep(nowMs);
      const end = await within('the end', ended);
      expect(end.b.lingered).toBe(true);
      b.reset();
    });

    test('a reader that leaves a full queue untouched for the stall time is cut', async () => {
      relay.plane.configure({ stallMs: 30_000 });
      const { a, b, ended } = await pair();
      b.socket.pause();
      await fill(a);
      relay.plane.sweep(1_000_000);
      relay.plane.sweep(1_029_999);
      expect(relay.plane.stats().legs).toBe(2);
      // The kernel may have moved a last piece since the first look.
      for (const nowMs of [1_030_000, 1_060_000, 1_090_000]) relay.plane.sweep(nowMs);
      a.fin();
      const end = await within('the end', ended);
      expect([end.first, end.b.cause, end.a.cause]).toEqual(['b', 'stalled', 'pair-ended']);
      b.reset();
    });
  }

  if (kinds[1] === 'raw') {
    test('a node that takes nothing of a full queue has ten times the stall time', async () => {
      relay.plane.configure({ stallMs: 30_000, lingerMs: 10_000 });
      const { a, b, ended } = await pair();
      b.socket.pause();
      await fill(a);
      // The kernel may have moved a last piece since the first look.
      for (const nowMs of [1_000_000, 1_100_000, 1_280_000]) relay.plane.sweep(nowMs);
      await relay.settled();
      expect(relay.plane.stats().legs).toBe(2);
      for (const nowMs of [1_600_000, 1_900_000, 2_200_000]) relay.plane.sweep(nowMs);
      a.fin();
      expect((await within('the end', ended)).b.cause).toBe('stalled');
      b.reset();
    });

    test('a node that is slow to take the last of a pair loses nothing by the linger time', async () => {
      relay.plane.configure({ stallMs: 120_000, lingerMs: 10_000 });
      const { a, b, ended } = await pair();
      b.socket.pause();
      const written = await fill(a);
      a.write(a.frame(OPCODES.close, encodeClosePayload(1000)));
      b.sendClose(1000);
      await a.nextClose();
      for (let nowMs = 0; nowMs < 600_000; nowMs += 30_000) relay.plane.sweep(nowMs);
      await relay.settled();
      b.socket.resume();
      await readBytes(b, written);
      expect((await b.nextClose()).code).toBe(1000);
      await b.nextEnd();
      a.fin();
      b.fin();
      expect((await within('the end', ended)).b.lingered).toBe(false);
    });
  }

  test('an idle pair outlives every sweep', async () => {
    const { a, b } = await pair();
    for (let nowMs = 0; nowMs < 10_000_000; nowMs += 100_000) relay.plane.sweep(nowMs);
    a.sendText('still there');
    expect(await b.nextText()).toBe('still there');
  });

  test('a flood of small frames leaves room for new connections', async () => {
    const { a, b } = await pair();
    b.socket.resume();
    b.keepsBytes = true;
    const flood = Buffer.concat(
      Array.from({ length: 500 }, () => a.frame(OPCODES.binary, Buffer.alloc(1024))),
    );
    const pump = (): void => {
      while (a.socket.writable && a.socket.write(flood));
    };
    a.socket.on('drain', pump);
    b.socket.on('data', () => void b.takeBytes());
    pump();
    const startedMs = performance.now();
    for (let i = 0; i < 20; i += 1) {
      const other = await pair();
      other.a.sendText('hi');
      expect(await other.b.nextText()).toBe('hi');
      other.a.reset();
      other.b.reset();
    }
    // It was 3,500 when one flood could keep the loop; a busy machine under sanitizers takes 100.
    expect((performance.now() - startedMs) / 20, 'ms').toBeLessThan(500);
  });
});
