import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FIN_BIT, OPCODES } from '../../src/protocol/frames.ts';
import type { FrameReceiver, LegHandle } from '../../src/transports/native-plane.ts';
import { clientFrame, type FrameClient } from '../support/frame-client.ts';
import { startNativeRelay, type NativeRelay } from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

const FINAL_BINARY = FIN_BIT | OPCODES.binary;

/** Writes down what a leg says, one line an event; payloads are joined apart. */
class Diary implements FrameReceiver {
  readonly lines: string[] = [];
  readonly payloads: Buffer[] = [];
  readonly isGone: Promise<void>;
  onChunk: (() => void) | undefined;
  #gone: (() => void) | undefined;

  constructor() {
    this.isGone = new Promise(resolve => (this.#gone = resolve));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.payloads);
  }

  chunk(firstByte: number, isFirst: boolean, isLast: boolean, payload: Uint8Array): void {
    this.payloads.push(Buffer.from(payload));
    this.lines.push(`${firstByte.toString(16)}${isFirst ? ' first' : ''}${isLast ? ' last' : ''}`);
    this.onChunk?.();
  }
  drain(): void {
    this.lines.push('drain');
  }
  closeFrame(code: number, reason: string): void {
    this.lines.push(`close ${code} ${reason}`);
  }
  error(code: number): void {
    this.lines.push(`error ${code}`);
  }
  gone(): void {
    this.lines.push('gone');
    this.#gone?.();
  }
}

describe('deliver()', () => {
  let relay: NativeRelay;
  let client: FrameClient;
  let leg: LegHandle;
  let diary: Diary;
  beforeAll(async () => {
    relay = await startNativeRelay();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    ({ client, leg } = await relay.park());
    diary = new Diary();
    expect(relay.plane.deliver(leg, diary)).toBe(true);
  });

  afterEach(async () => {
    await relay.cutAll();
  });

  async function leave(): Promise<void> {
    client.reset();
    await within('gone', diary.isGone);
  }

  test('gives nothing before resume(), then all that was held, in order', async () => {
    client.write(
      Buffer.concat([clientFrame(OPCODES.text, 'one'), clientFrame(OPCODES.binary, 'two')]),
    );
    await until('held', () => relay.plane.legStats(leg)?.heldBytes === 18);
    expect(diary.lines).toEqual([]);
    relay.plane.resume(leg);
    expect(diary.lines, 'not from inside resume()').toEqual([]);
    await until('two chunks', () => diary.lines.length === 2);
    expect(diary.lines).toEqual(['81 first last', '82 first last']);
    expect(diary.bytes.toString()).toBe('onetwo');
    await leave();
  });

  test('gives fragments and parts of frames as they come', async () => {
    relay.plane.resume(leg);
    client.send(OPCODES.text, 'a', { isFinal: false });
    client.send(OPCODES.continuation, '', { isFinal: false });
    await until('two chunks', () => diary.lines.length === 2);
    const frame = clientFrame(OPCODES.continuation, 'bcd');
    client.write(frame.subarray(0, 7));
    await until('three chunks', () => diary.lines.length === 3);
    client.write(frame.subarray(7, 8));
    await until('four chunks', () => diary.lines.length === 4);
    client.write(frame.subarray(8));
    await until('five chunks', () => diary.lines.length === 5);
    expect(diary.lines).toEqual(['1 first last', '0 first last', '80 first', '80', '80 last']);
    expect(diary.bytes.toString()).toBe('abcd');
    await leave();
  });

  test('gives a frame of a megabyte whole, though not in one part', async () => {
    relay.plane.resume(leg);
    const payload = Buffer.alloc(1_000_000, 'abcdefghij');
    client.send(OPCODES.binary, payload);
    await until('the last part', () => diary.lines.at(-1)?.endsWith('last') === true);
    expect(diary.bytes.equals(payload)).toBe(true);
    expect(diary.lines.filter(line => line.includes('first')).length).toBe(1);
    await leave();
  });

  test('pause() within chunk() holds the rest of what was received', async () => {
    diary.onChunk = () => relay.plane.pause(leg);
    relay.plane.resume(leg);
    client.write(Buffer.concat(['a', 'b', 'c'].map(text => clientFrame(OPCODES.text, text))));
    for (const expected of ['a', 'ab', 'abc']) {
      await until(expected, () => diary.bytes.toString() === expected);
      await new Promise(resolve => void setImmediate(resolve));
      expect(diary.bytes.toString()).toBe(expected);
      relay.plane.resume(leg);
    }
    await leave();
  });

  test('holds a bounded part of a flood while paused, and loses nothing', async () => {
    const total = 8_000_000;
    const payload = Buffer.alloc(total, 'flood');
    client.send(OPCODES.binary, payload);
    await until('held', () => (relay.plane.legStats(leg)?.heldBytes ?? 0) > 0);
    for (let i = 0; i < 50; i += 1) await new Promise(resolve => void setImmediate(resolve));
    expect(relay.plane.legStats(leg)?.heldBytes).toBeLessThanOrEqual(1024 * 1024);
    expect(client.socket.writableLength).toBeGreaterThan(0);
    relay.plane.resume(leg);
    await until('all of it', () => diary.lines.at(-1)?.endsWith('last') === true);
    expect(diary.bytes.equals(payload)).toBe(true);
    await leave();
  });

  test('answers pings, but not within a frame that is being written', async () => {
    relay.plane.resume(leg);
    client.send(OPCODES.ping, 'one');
    expect(Buffer.from((await client.next())?.payload ?? []).toString()).toBe('one');
    relay.plane.writeFrame(leg, FINAL_BINARY, Buffer.from('half'), 8);
    client.send(OPCODES.ping, 'two');
    client.send(OPCODES.pong, 'nobody asked');
    client.sendText('after the ping');
    await until('the text', () => diary.bytes.toString() === 'after the ping');
    relay.plane.writeMore(leg, Buffer.from('half'));
    expect(Buffer.from((await client.next())?.payload ?? []).toString()).toBe('halfhalf');
    const pong = await client.next();
    expect([pong?.opcode, Buffer.from(pong?.payload ?? []).toString()]).toEqual([
      OPCODES.pong,
      'two',
    ]);
    await leave();
  });

  test('keeps one pong for a client that pings and does not read', async () => {
    relay.plane.resume(leg);
    client.socket.pause();
    let queued = 0;
    const block = Buffer.alloc(60_000, 'x');
    while (queued === 0) queued = relay.plane.writeFrame(leg, FINAL_BINARY, block);
    for (let i = 0; i < 1000; i += 1) client.send(OPCODES.ping, `ping ${i}`);
    client.sendText('end of pings');
    await until('the text', () => diary.bytes.toString() === 'end of pings');
    expect(relay.plane.legStats(leg)?.queuedBytes).toBe(queued);
    client.socket.resume();
    let frame = await client.next();
    while (frame?.opcode === OPCODES.binary) frame = await client.next();
    expect(Buffer.from(frame?.payload ?? []).toString()).toBe('ping 999');
    await leave();
  });

  test('writes frames whole, in parts, and long ones as fragments', async () => {
    relay.plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from('hello'));
    expect(await client.nextText()).toBe('hello');
    relay.plane.writeFrame(leg, OPCODES.text, new Uint8Array(0));
    expect(await client.next()).toMatchObject({ firstByte: OPCODES.text });
    const payload = Buffer.alloc(200_000, '0123456789');
    relay.plane.writeFrame(leg, FIN_BIT, payload.subarray(0, 10), payload.length);
    for (let at = 10; at < payload.length; at += 30_000) {
      relay.plane.writeMore(leg, payload.subarray(at, at + 30_000));
    }
    const got: Buffer[] = [];
    for (const size of [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]) {
      const frame = await client.next();
      expect([frame?.firstByte, frame?.payload.length]).toEqual([
        size === 65_536 ? 0 : FIN_BIT,
        size,
      ]);
      got.push(Buffer.from(frame?.payload ?? []));
    }
    expect(Buffer.concat(got).equals(payload)).toBe(true);
    await leave();
  });

  test('returns what waits, and says drain() when nothing does any more', async () => {
    client.socket.pause();
    const block = Buffer.alloc(100_000, 'z');
    let blocks = 0;
    let queued = 0;
    while (queued === 0) {
      queued = relay.plane.writeFrame(leg, FINAL_BINARY, block);
      blocks += 1;
    }
    expect(relay.plane.stats().queuedBytes).toBe(queued);
    client.socket.resume();
    await until('drain', () => diary.lines.includes('drain'));
    expect(relay.plane.legStats(leg)?.queuedBytes).toBe(0);
    let bytes = 0;
    while (bytes < blocks * block.length) bytes += (await client.next())?.payload.length ?? 0;
    expect(bytes).toBe(blocks * block.length);
    expect(diary.lines).toEqual(['drain']);
    await leave();
  });

  test('passes ready-made frames, and puts Close only between two of them', async () => {
    const raw = Buffer.from([0x01, 2, 104, 105, 0x80, 126, 0, 200]);
    relay.plane.writeRaw(leg, raw.subarray(0, 5));
    relay.plane.writeRaw(leg, raw.subarray(5));
    relay.plane.writeRaw(leg, Buffer.alloc(199, 'r'));
    relay.plane.close(leg, 1000);
    expect((await client.next())?.payload.length).toBe(2);
    // One byte of the second frame is missing, so Close cannot stand there.
    await client.nextEnd();
    client.fin();
    await within('gone', diary.isGone);
  });

  test('tells a Close with its reason, and answers when asked', async () => {
    relay.plane.resume(leg);
    client.sendText('last');
    client.sendClose(4000, 'größer');
    await until('close', () => diary.lines.length === 2);
    expect(diary.lines).toEqual(['81 first last', 'close 4000 größer']);
    relay.plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from('still here'));
    relay.plane.close(leg, 4000, 'größer');
    expect(await client.nextText()).toBe('still here');
    expect(await client.nextClose()).toEqual({ code: 4000, reason: 'größer' });
    await client.nextEnd();
    client.fin();
    await within('gone', diary.isGone);
    expect(diary.lines.at(-1)).toBe('gone');
  });

  test('close() first: goes on delivering until the Close of the peer', async () => {
    relay.plane.resume(leg);
    relay.plane.close(leg, 1000, 'r'.repeat(200));
    expect(await client.nextClose()).toEqual({ code: 1000, reason: 'r'.repeat(123) });
    expect(relay.plane.writeFrame(leg, FINAL_BINARY, Buffer.from('dropped'))).toBe(0);
    client.sendText('more');
    await until('more', () => diary.bytes.toString() === 'more');
    client.sendClose();
    await client.nextEnd();
    expect(diary.lines).toEqual(['81 first last', 'close 1005 ']);
    client.fin();
    await within('gone', diary.isGone);
  });

  test('close(): a peer that is silent is cut after the linger time', async () => {
    relay.plane.resume(leg);
    relay.plane.close(leg, 1000);
    await client.nextClose();
    for (const nowMs of [100_000, 109_999]) relay.plane.sweep(nowMs);
    await relay.settled();
    expect(relay.plane.stats().legs).toBe(1);
    client.sendText('a sign of life');
    await until('the text', () => diary.lines.length === 1);
    for (const nowMs of [115_000, 124_999]) relay.plane.sweep(nowMs);
    await relay.settled();
    expect(relay.plane.stats().legs).toBe(1);
    relay.plane.sweep(125_000);
    await within('gone', diary.isGone);
    client.fin();
  });

  test('close() of a Close that is passed on: the peer may take its time, until close() says otherwise', async () => {
    relay.plane.resume(leg);
    relay.plane.close(leg, 4000, 'only asking', true);
    expect(await client.nextClose()).toEqual({ code: 4000, reason: 'only asking' });
    for (let nowMs = 0; nowMs < 10_000_000; nowMs += 100_000) relay.plane.sweep(nowMs);
    client.sendText('the answer');
    await until('the answer', () => diary.bytes.toString() === 'the answer');

    relay.plane.close(leg, 1001, 'The other side went away');
    relay.plane.sweep(20_000_000);
    // Said again it is no news.
    relay.plane.close(leg, 1001);
    relay.plane.sweep(20_009_999);
    await relay.settled();
    expect(relay.plane.stats().legs).toBe(1);
    relay.plane.sweep(20_010_000);
    await within('gone', diary.isGone);
    expect(await client.next(), 'no second Close').toBeUndefined();
    client.fin();
  });

  test('end() sends FIN after what is queued, destroy() cuts, and both end in gone()', async () => {
    relay.plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from('last words'));
    relay.plane.end(leg);
    expect(await client.nextText()).toBe('last words');
    await client.nextEnd();
    client.fin();
    await within('gone', diary.isGone);

    const second = await relay.park();
    const other = new Diary();
    relay.plane.deliver(second.leg, other);
    relay.plane.destroy(second.leg);
    expect(other.lines, 'not from inside destroy()').toEqual([]);
    await within('gone', other.isGone);
    await second.client.nextEnd();
    second.client.fin();
    expect(other.lines).toEqual(['gone']);
  });

  test('a violation is answered and told, and ends in gone()', async () => {
    relay.plane.resume(leg);
    client.sendText('fine');
    client.write(Buffer.from([0x81, 0x01, 0x41]));
    expect((await client.nextClose()).code).toBe(1002);
    await client.nextEnd();
    client.fin();
    await within('gone', diary.isGone);
    expect(diary.lines).toEqual(['81 first last', 'error 1002', 'gone']);
  });

  test('what was held is delivered before gone(), even after a reset', async () => {
    client.sendText('held');
    await until('held', () => relay.plane.legStats(leg)?.heldBytes !== 0);
    client.reset();
    await until('noticed', () => {
      relay.plane.sweep();
      return relay.plane.legStats(leg)?.state === 'gone';
    });
    expect(diary.lines).toEqual([]);
    relay.plane.resume(leg);
    await within('gone', diary.isGone);
    expect(diary.lines).toEqual(['81 first last', 'gone']);
  });

  test('destroy() within chunk() ends it there', async () => {
    diary.onChunk = () => relay.plane.destroy(leg);
    relay.plane.resume(leg);
    client.write(Buffer.concat(['a', 'b'].map(text => clientFrame(OPCODES.text, text))));
    await within('gone', diary.isGone);
    expect(diary.bytes.toString()).toBe('a');
    client.fin();
    await client.closed;
  });

  test('an exception in chunk() is an uncaught one, and the leg goes on', async () => {
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const caught = new Promise<unknown>(resolve => process.once('uncaughtException', resolve));
    try {
      diary.onChunk = () => {
        diary.onChunk = undefined;
        throw new Error('thrown by a test');
      };
      relay.plane.resume(leg);
      client.write(Buffer.concat(['a', 'b'].map(text => clientFrame(OPCODES.text, text))));
      expect(String(await within('the exception', caught))).toBe('Error: thrown by a test');
    } finally {
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    await until('the next chunk', () => diary.bytes.toString() === 'ab');
    await leave();
  });

  test('refuses frames that cannot be written', () => {
    const { plane } = relay;
    const empty = new Uint8Array(0);
    expect(() => plane.writeFrame(leg, FINAL_BINARY, new Uint8Array(5), 4)).toThrow('totalBytes');
    expect(() => plane.writeFrame(leg, 0x89, new Uint8Array(126))).toThrow('at most 125 bytes');
    plane.writeFrame(leg, FINAL_BINARY, empty, 4);
    expect(() => plane.writeFrame(leg, FINAL_BINARY, empty)).toThrow('the last one has not ended');
    expect(() => plane.writeMore(leg, new Uint8Array(5))).toThrow('fewer bytes left');
    plane.destroy(leg);
  });
});
