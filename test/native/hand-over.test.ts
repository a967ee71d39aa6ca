import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, OPCODES } from '../../src/protocol/frames.ts';
import type { LegHandle } from '../../src/transports/native-plane.ts';
import { startNativeRelay, type NativeRelay } from '../support/native-relay.ts';
import { Inbox } from '../support/inbox.ts';
import { until, within } from '../support/within.ts';

interface Taken {
  readonly leg: LegHandle;
  readonly record: string;
}

/** Giver and taker are one process here; for the kernel that is no other thing. */
describe('handOver() and takeOvers()', () => {
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

  function take(messageBytesMax = 0) {
    const name = `halfway-test-${randomBytes(8).toString('hex')}`;
    const taken = new Inbox<Taken>('a connection');
    const stop = relay.plane.takeOvers(name, { messageBytesMax }, (leg, record) =>
      taken.put({ leg, record: Buffer.from(record).toString() }),
    );
    if (stop === undefined) throw new Error('The name cannot be had');
    return { name, taken, [Symbol.dispose]: stop };
  }

  /** A client whose 101 has left: before that its socket cannot be given. */
  async function park(early?: Uint8Array) {
    const parked = await relay.park({}, early);
    await relay.settled();
    return parked;
  }

  /** Connections given, some of them to nobody; nothing of it is left. */
  async function giveSome(): Promise<void> {
    const door = take();
    for (let i = 0; i < 5; i += 1) {
      const { client, leg } = await park();
      expect(relay.plane.handOver(leg, door.name, Buffer.from('x'))).toBe('given');
      const { leg: here } = await door.taken.next();
      relay.plane.destroy(here);
      await client.nextEnd();
      client.reset();
    }
    const { leg } = await park();
    expect(relay.plane.handOver(leg, door.name, Buffer.from('x'))).toBe('given');
    // Nobody looks any more: the kernel closes what was on its way.
    door[Symbol.dispose]();
    await relay.cutAll();
  }

  test('a client goes on where it was given to, and notices nothing', async () => {
    using door = take();
    const { client, leg } = await park();
    expect(relay.plane.handOver(leg, door.name, Buffer.from('who it is'))).toBe('given');
    expect(relay.plane.legStats(leg)?.state ?? 'gone').toBe('gone');
    const { leg: here, record } = await door.taken.next();
    expect(record).toBe('who it is');
    const partner = await relay.park();
    const { ended } = relay.splice(here, partner.leg);
    client.sendText('to the partner');
    expect(await partner.client.nextText()).toBe('to the partner');
    partner.client.sendText('to the client');
    expect(await client.nextText()).toBe('to the client');
    partner.client.sendClose(4001, 'done');
    expect(await client.nextClose()).toEqual({ code: 4001, reason: 'done' });
    client.send(OPCODES.close, encodeClosePayload(4002));
    expect((await partner.client.nextClose()).code).toBe(4002);
    await Promise.all([client.nextEnd(), partner.client.nextEnd()]);
    client.fin();
    partner.client.fin();
    expect((await within('the end', ended)).a.closeCode).toBe(4002);
  });

  test('takes along what was read before, in the midst of a frame', async () => {
    using door = take();
    const { client, leg } = await park();
    const frame = client.frame(OPCODES.text, 'cut in two');
    client.write(frame.subarray(0, 9));
    await until('held', () => relay.plane.legStats(leg)?.heldBytes === 9);
    expect(relay.plane.handOver(leg, door.name, Buffer.from('x'))).toBe('given');
    client.write(frame.subarray(9));
    const partner = await relay.park();
    relay.splice((await door.taken.next()).leg, partner.leg);
    expect(await partner.client.nextText()).toBe('cut in two');
  });

  test('holds the client to the limit of where it is now', async () => {
    using door = take(10);
    const { client, leg } = await park();
    expect(relay.plane.handOver(leg, door.name, Buffer.from('x'))).toBe('given');
    const partner = await relay.park();
    relay.splice((await door.taken.next()).leg, partner.leg);
    client.sendText('eleven char');
    expect((await client.nextClose()).code).toBe(1009);
  });

  test('refuses when nobody is there, for what is no parked client, and when more is held than fits', async () => {
    using door = take();
    const { client, leg } = await park();
    const record = Buffer.from('x');
    expect(relay.plane.handOver(leg, `${door.name}-not`, record)).toBe('refused');
    expect(relay.plane.handOver(leg, door.name, new Uint8Array(70_000))).toBe('refused');
    expect(relay.plane.handOver(leg + 1, door.name, record)).toBe('refused');
    await client.flush(client.frame(OPCODES.binary, new Uint8Array(30_000)));
    await until('some is held', () => (relay.plane.legStats(leg)?.heldBytes ?? 0) > 10_000);
    expect(relay.plane.handOver(leg, door.name, new Uint8Array(60_000))).toBe('refused');
    const partner = await relay.park();
    relay.splice(leg, partner.leg);
    expect(relay.plane.handOver(leg, door.name, record)).toBe('refused');
    expect((await partner.client.next())?.payload.length).toBeGreaterThan(0);
  });

  test('refuses a Unix socket: its other end, a TLS terminator, stays here', async () => {
    using door = take();
    await using unix = await startNativeRelay('unix');
    const behindTls = await unix.park();
    await relay.settled();
    expect(relay.plane.handOver(behindTls.leg, door.name, Buffer.from('x'))).toBe('refused');
    behindTls.client.reset();
    await until('it is gone', () => relay.plane.legStats(behindTls.leg) === undefined);
  });

  test('asks to wait while the other has too many, and all come through', async () => {
    using door = take();
    const clients = await Promise.all(Array.from({ length: 40 }, () => park()));
    const waiting = new Set(clients.map(({ leg }) => leg));
    let hadToWait = false;
    // Within one turn the taker, which is this process, can take none.
    while (waiting.size > 0) {
      for (const leg of waiting) {
        const outcome = relay.plane.handOver(leg, door.name, Buffer.from('x'));
        expect(outcome).not.toBe('refused');
        if (outcome === 'given') waiting.delete(leg);
        else hadToWait = true;
      }
      await relay.settled();
    }
    expect(hadToWait).toBe(true);
    for (let i = 0; i < 40; i += 1) relay.plane.destroy((await door.taken.next()).leg);
    for (const { client } of clients) await client.nextEnd();
  });

  test('a name is had once, and is free when it is given back', () => {
    const door = take();
    expect(relay.plane.takeOvers(door.name, { messageBytesMax: 0 }, () => {})).toBeUndefined();
    expect(
      relay.plane.takeOvers('x'.repeat(200), { messageBytesMax: 0 }, () => {}),
    ).toBeUndefined();
    door[Symbol.dispose]();
    door[Symbol.dispose]();
  });

  test('leaves no descriptor behind, whether the connection is taken or not', async () => {
    await giveSome();
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 5; i += 1) await giveSome();
    await until('as many as before', () => readdirSync('/proc/self/fd').length <= before);
  });
});
