import { createServer } from 'node:net';
import { openSync, closeSync, readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, encodeFrame, FIN_BIT, OPCODES } from '../../src/protocol/frames.ts';
import type { LegHandle } from '../../src/transports/native-plane.ts';
import { nodeFrame, type FrameClient } from '../support/frame-client.ts';
import {
  connection,
  descriptorOf,
  startNativeRelay,
  type LegKind,
  type NativeRelay,
} from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

const MEBIBYTE = 1024 * 1024;
const NOTHING = new Uint8Array(0);

/** What streams between nodes have of their own. What they share with clients is in the other files here. */
describe('adopt()', () => {
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

  test('takes a descriptor of its own: the one it was given may be closed at once', async () => {
    const before = relay.plane.stats();
    const { near, far } = await connection();
    const leg = relay.plane.adopt(descriptorOf(near), { head: NOTHING });
    expect(leg).toBeGreaterThan(0);
    near.destroy();
    await within('Node has closed it', new Promise(resolve => void near.once('close', resolve)));
    const { client, leg: other } = await relay.park();
    relay.splice(leg, other);
    expect(relay.plane.stats()).toMatchObject({ legs: 2, rawLegs: 1, splices: 1 });
    far.write(nodeFrame(OPCODES.text, 'from another node'));
    expect(await client.nextText()).toBe('from another node');
    far.resetAndDestroy();
    expect((await client.nextClose()).code).toBe(1001);
    client.fin();
    await relay.empty();
    const after = relay.plane.stats();
    expect(after.rawLegs).toBe(0);
    expect(after.adoptedTotal - before.adoptedTotal).toBe(1);
    expect(after.attachedTotal - before.attachedTotal).toBe(2);
  });

  test('refuses what is no stream of frames, and leaves no descriptor behind', async () => {
    const file = openSync('/dev/null', 'r');
    const server = createServer();
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
    const { near, far } = await connection();
    const fd = descriptorOf(near);
    const handle: unknown = Reflect.get(server, '_handle');
    const listening: unknown = typeof handle === 'object' && handle && Reflect.get(handle, 'fd');
    const openBefore = readdirSync('/proc/self/fd').length;

    expect(relay.plane.adopt(-1, { head: NOTHING })).toBe(0);
    expect(relay.plane.adopt(999_999, { head: NOTHING })).toBe(0);
    expect(relay.plane.adopt(file, { head: NOTHING })).toBe(0);
    expect(relay.plane.adopt(Number(listening), { head: NOTHING })).toBe(0);
    relay.plane.configure({ parkedBytesMax: 10 });
    expect(relay.plane.adopt(fd, { head: new Uint8Array(11) })).toBe(0);
    expect(() => relay.plane.adopt(Number.NaN, { head: NOTHING })).toThrow('Cannot adopt');

    expect(readdirSync('/proc/self/fd')).toHaveLength(openBefore);
    expect(relay.plane.stats()).toMatchObject({ legs: 0, rawLegs: 0, heldBytes: 0 });
    relay.plane.configure({ parkedBytesMax: 64 * MEBIBYTE });
    // It is still the caller's, and whole.
    near.resume();
    far.write('as before');
    const [data] = await within(
      'the bytes',
      new Promise<Buffer[]>(resolve => void near.once('data', (...bytes) => resolve(bytes))),
    );
    expect(String(data)).toBe('as before');
    near.destroy();
    far.destroy();
    closeSync(file);
    await new Promise<void>(resolve => void server.close(() => resolve()));
  });

  test('counts what was read before among the bytes held, and forgets them with the leg', async () => {
    const { client, leg } = await relay.adopt(nodeFrame(OPCODES.text, 'held'));
    expect(relay.plane.legStats(leg)).toMatchObject({ state: 'parked', heldBytes: 6 });
    client.reset();
    await until('gone', () => {
      relay.plane.sweep();
      return relay.plane.stats().legs === 0;
    });
    expect(relay.plane.stats().heldBytes).toBe(0);
  });

  describe.each<readonly [LegKind, LegKind]>([
    ['raw', 'websocket'],
    ['raw', 'raw'],
  ])('%s to %s', (...kinds) => {
    const masked = encodeFrame({ opcode: OPCODES.text, payload: Buffer.from('no'), mask: 1 });
    test.each([
      ['a masked frame', masked],
      ['a reserved bit', Uint8Array.of(0xc1, 0)],
      ['a reserved opcode', Uint8Array.of(0x83, 0)],
      ['a ping in fragments', Uint8Array.of(0x09, 0)],
      ['a ping of 126 bytes', Uint8Array.of(0x89, 126, 0, 126)],
      ['a continuation of nothing', Uint8Array.of(0x80, 0)],
      ['a length that is not minimal', Uint8Array.of(0x82, 126, 0, 125)],
      ['a long length that is not minimal', Uint8Array.of(0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff)],
      ['a length with its top bit set', Uint8Array.of(0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0)],
      ['a Close of one byte', Uint8Array.of(0x88, 1, 3)],
      [
        'a Close with a code that may not be sent',
        nodeFrame(OPCODES.close, encodeClosePayload(1006)),
      ],
    ])('%s from another node ends the pair by 1002 on both ends', async (_, bytes) => {
      const { a, b, ended } = await relay.pair({ kinds });
      a.sendText('good');
      a.write(bytes);
      a.sendText('not looked at');
      expect(await b.nextText()).toBe('good');
      expect((await b.nextClose()).code).toBe(1002);
      expect((await a.nextClose()).code).toBe(1002);
      await Promise.all([a.nextEnd(), b.nextEnd()]);
      a.fin();
      b.fin();
      const end = await within('the end', ended);
      expect([end.first, end.a.cause, end.b.cause]).toEqual(['a', 'protocol-error', 'pair-ended']);
    });
  });

  test('destroy() cuts a stream, and its pair is told as for a lost peer', async () => {
    const { a, b, legA, ended } = await relay.pair({ kinds: ['raw', 'websocket'] });
    relay.plane.destroy(legA);
    await a.nextEnd();
    expect((await b.nextClose()).code).toBe(1001);
    b.fin();
    expect((await within('the end', ended)).a.cause).toBe('closed-by-us');
  });

  test('close() closes both ends, as for a drain', async () => {
    const { a, b, legB, ended } = await relay.pair({ kinds: ['raw', 'websocket'] });
    relay.plane.close(legB, 1001, 'drain');
    expect(await a.nextClose()).toEqual({ code: 1001, reason: 'drain' });
    expect(await b.nextClose()).toEqual({ code: 1001, reason: 'drain' });
    await Promise.all([a.nextEnd(), b.nextEnd()]);
    a.fin();
    b.fin();
    await within('the end', ended);
  });

  describe('delivered to JavaScript', () => {
    test('gives frames as they came, and writes unmasked ones', async () => {
      const { client, leg, said } = await deliver(relay);
      client.sendText('in');
      await until('a chunk', () => said.length === 1);
      relay.plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from('out'));
      expect(await client.nextText()).toBe('out');
      client.send(OPCODES.ping, 'are you there');
      expect(await client.next()).toMatchObject({ opcode: OPCODES.pong });
      client.sendClose(1000, 'done');
      await until('a Close', () => said.length === 2);
      relay.plane.writeFrame(leg, FIN_BIT | OPCODES.text, Buffer.from('still'));
      relay.plane.close(leg, 1000, 'done, too');
      expect(await client.nextText()).toBe('still');
      expect(await client.nextClose()).toEqual({ code: 1000, reason: 'done, too' });
      await client.nextEnd();
      client.fin();
      await until('gone', () => said.includes('gone'));
      expect(said).toEqual(['81 in.', 'close 1000 done', 'gone']);
    });

    test('is gone when another node ends the stream behind its Close', async () => {
      const { client, said } = await deliver(relay);
      client.sendClose(1001, '');
      client.fin();
      await until('gone', () => said.includes('gone'));
      expect(said).toEqual(['close 1001 ', 'gone']);
    });

    test('is gone without a Close when another node is lost', async () => {
      const { client, said } = await deliver(relay);
      client.write(nodeFrame(OPCODES.text, 'half').subarray(0, 4));
      client.reset();
      await until('gone', () => said.includes('gone'));
      expect(said.at(-1)).toBe('gone');
      expect(said.some(line => line.startsWith('close'))).toBe(false);
    });
  });
});

/** A stream that JavaScript receives from, and what it said. */
async function deliver(
  relay: NativeRelay,
): Promise<{ client: FrameClient; leg: LegHandle; said: string[] }> {
  const { client, leg } = await relay.adopt();
  const said: string[] = [];
  relay.plane.deliver(leg, {
    chunk: (firstByte, _first, isLast, payload) =>
      said.push(`${firstByte.toString(16)} ${String(Buffer.from(payload))}${isLast ? '.' : ''}`),
    drain: () => {},
    closeFrame: (code, reason) => said.push(`close ${code} ${reason}`),
    error: code => said.push(`error ${code}`),
    gone: () => said.push('gone'),
  });
  relay.plane.resume(leg);
  return { client, leg, said };
}
