import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { us_socket_context_t } from 'uWebSockets.js';
import { OPCODES } from '../../src/protocol/frames.ts';
import { selfTest, startSweeping, type FrameReceiver } from '../../src/transports/native-plane.ts';
import { uWS, uwsAddonPath } from '../../src/transports/uws.ts';
import { FrameClient } from '../support/frame-client.ts';
import { requirePlane, startNativeRelay, type NativeRelay } from '../support/native-relay.ts';
import { until, within } from '../support/within.ts';

const NO_LIMITS = { frameBytesMax: 0, messageBytesMax: 0 };

function ignoring(): FrameReceiver {
  return { chunk() {}, drain() {}, closeFrame() {}, error() {}, gone() {} };
}

describe('selfTest()', () => {
  test('relays on loopback, quickly, and leaves nothing behind', async () => {
    const plane = requirePlane();
    expect(await selfTest(plane)).toBeUndefined();
    const startedMs = performance.now();
    expect(await selfTest(plane)).toBeUndefined();
    expect(performance.now() - startedMs).toBeLessThan(500);
    await until('no leg left', () => plane.stats().legs === 0);
  });
});

describe('uwsAddonPath', () => {
  test('is spelled as the dynamic linker knows it', () => {
    const report: unknown = process.report.getReport();
    const objects =
      typeof report === 'object' && report !== null && 'sharedObjects' in report
        ? report.sharedObjects
        : [];
    expect(objects).toContain(uwsAddonPath);
  });
});

describe('startSweeping()', () => {
  test('sweeps once a second until it is stopped', () => {
    const plane = { ...requirePlane(), sweep: (nowMs?: number) => void sweeps.push(nowMs) };
    const sweeps: (number | undefined)[] = [];
    let nowMs = 0;
    let due: (() => void) | undefined;
    const stop = startSweeping(plane, {
      nowMs: () => nowMs,
      wallMs: () => 0,
      after(delayMs, task) {
        expect(delayMs).toBe(1_000);
        due = task;
        return () => (due = undefined);
      },
    });
    for (nowMs = 1_000; nowMs <= 3_000; nowMs += 1_000) due?.();
    stop();
    due?.();
    expect(sweeps).toEqual([1_000, 2_000, 3_000]);
  });
});

describe('the plane', () => {
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

  test('hook() is 0 for a hooked context and -1 for what is none', async () => {
    const { plane } = relay;
    const results: number[] = [];
    const app = uWS.App().ws('/*', {
      upgrade(response, _request, context) {
        results.push(plane.hook(context), plane.hook(context));
        response.writeStatus('400 Bad Request').end();
      },
    });
    const port = await new Promise<number>(resolve => {
      app.listen('127.0.0.1', 0, 1, socket => {
        if (socket !== false) resolve(uWS.us_socket_local_port(socket));
      });
    });
    await expect(FrameClient.open(port, '/')).rejects.toThrow('400');
    app.close();
    expect(results).toEqual([1, 0]);
    const none: us_socket_context_t = {};
    expect(plane.hook(none)).toBe(-1);
  });

  test('sockets of a hooked route that are not attached stay with uWebSockets.js', async () => {
    const client = await FrameClient.open(relay.address, '/echo');
    client.sendText('hello');
    expect(await client.nextText()).toBe('hello');
    client.send(OPCODES.ping, 'p');
    expect((await client.next())?.opcode).toBe(OPCODES.pong);
    client.sendClose(1000);
    expect((await client.nextClose()).code).toBe(1000);
    await client.nextEnd();
    client.fin();
    await client.closed;
  });

  test('many sockets that are not attached live beside legs', async () => {
    const { a, b } = await relay.pair();
    for (let i = 0; i < 50; i += 1) {
      const client = await FrameClient.open(relay.address, '/echo');
      client.sendText(`${i}`);
      a.sendText(`${i}`);
      expect(await client.nextText()).toBe(`${i}`);
      expect(await b.nextText()).toBe(`${i}`);
      client.reset();
    }
    a.reset();
    b.reset();
    await relay.empty();
  });

  test('attach() takes a socket once, and none that is closed', async () => {
    const { client, leg } = await relay.park();
    const ws = relay.wsOf(leg);
    expect(relay.plane.attach(ws, NO_LIMITS)).toBe(0);
    client.reset();
    await relay.empty();
    expect(relay.plane.attach(ws, NO_LIMITS)).toBe(0);
  });

  test('a stale handle is refused by every call, also when its place is taken again', async () => {
    const { plane } = relay;
    const old = await relay.park();
    old.client.reset();
    await relay.empty();
    const other = await relay.park();
    const fresh = await relay.park();
    expect(fresh.leg).not.toBe(old.leg);
    const stale = old.leg;
    expect(plane.splice(stale, fresh.leg, new Float64Array(4), () => {})).toBe(false);
    expect(plane.splice(fresh.leg, fresh.leg, new Float64Array(4), () => {})).toBe(false);
    expect(plane.deliver(stale, ignoring())).toBe(false);
    expect(plane.writeFrame(stale, 0x81, Buffer.from('x'))).toBe(0);
    expect(plane.writeMore(stale, Buffer.from('x'))).toBe(0);
    expect(plane.writeRaw(stale, Buffer.from('x'))).toBe(0);
    expect(plane.legStats(stale)).toBeUndefined();
    plane.pause(stale);
    plane.resume(stale);
    plane.close(stale, 1000);
    plane.end(stale);
    plane.destroy(stale);
    for (const handle of [0, -1, 1.5, Number.NaN, Number.MAX_SAFE_INTEGER]) plane.destroy(handle);
    relay.splice(other.leg, fresh.leg);
    other.client.sendText('untouched');
    expect(await fresh.client.nextText()).toBe('untouched');
    // A leg is joined once.
    expect(plane.splice(other.leg, fresh.leg, new Float64Array(4), () => {})).toBe(false);
    expect(plane.deliver(fresh.leg, ignoring())).toBe(false);
    expect(plane.writeFrame(fresh.leg, 0x81, Buffer.from('x'))).toBe(0);
    other.client.reset();
    fresh.client.reset();
    await relay.empty();
  });

  test('splice() wants counters and a function', async () => {
    const [a, b] = await Promise.all([relay.park(), relay.park()]);
    expect(() => relay.plane.splice(a.leg, b.leg, new Float64Array(3), () => {})).toThrow(
      'Float64Array of 4',
    );
    a.client.reset();
    b.client.reset();
    await relay.empty();
  });

  test('counters may be shared, and may be given away while pairs live', async () => {
    const [a, b, c, d] = await Promise.all([
      relay.park(),
      relay.park(),
      relay.park(),
      relay.park(),
    ]);
    const counters = new Float64Array(4);
    relay.plane.splice(a.leg, b.leg, counters, () => {});
    relay.plane.splice(c.leg, d.leg, counters, () => {});
    a.client.sendText('12345');
    d.client.sendText('123');
    await Promise.all([b.client.nextText(), c.client.nextText()]);
    expect([...counters]).toEqual([5, 3, 1, 1]);
    structuredClone(counters, { transfer: [counters.buffer] });
    a.client.sendText('into memory that nobody sees');
    await b.client.nextText();
    for (const { client } of [a, b, c, d]) client.reset();
    await relay.empty();
  });

  test('close() of a spliced leg sends Close to both ends, end() only FIN', async () => {
    const closed = await relay.pair();
    relay.plane.close(closed.legA, 1012, 'moving');
    for (const client of [closed.a, closed.b]) {
      expect(await client.nextClose()).toEqual({ code: 1012, reason: 'moving' });
      await client.nextEnd();
      client.fin();
    }
    const end = await within('the end', closed.ended);
    expect([end.a.cause, end.b.cause]).toEqual(['closed-by-us', 'closed-by-us']);

    const ended = await relay.pair();
    relay.plane.end(ended.legB);
    for (const client of [ended.a, ended.b]) {
      await client.nextEnd();
      client.fin();
    }
    await within('the end', ended.ended);
  });

  test('destroy() of a spliced leg cuts it, and tells the other end', async () => {
    const { a, b, legA, ended } = await relay.pair();
    let isTold = false;
    void ended.then(() => (isTold = true));
    relay.plane.destroy(legA);
    expect(isTold, 'not from inside destroy()').toBe(false);
    expect((await b.nextClose()).code).toBe(1001);
    await Promise.all([a.ended, b.nextEnd()]);
    a.fin();
    b.fin();
    expect((await within('the end', ended)).a.cause).toBe('closed-by-us');
  });

  test('close() of a parked leg sends Close and FIN', async () => {
    const { client, leg } = await relay.park();
    relay.plane.close(leg, 1001, 'nobody came');
    expect(await client.nextClose()).toEqual({ code: 1001, reason: 'nobody came' });
    await client.nextEnd();
    client.fin();
    await relay.empty();
  });

  test('close() of the object of uWebSockets.js ends the pair as a loss', async () => {
    const { a, b, legA, ended } = await relay.pair();
    relay.wsOf(legA).close();
    expect((await b.nextClose()).code).toBe(1001);
    a.fin();
    b.fin();
    expect((await within('the end', ended)).a.cause).toBe('lost');
  });

  test('an exception in onEnd is an uncaught one, and the plane goes on', async () => {
    const [a, b] = await Promise.all([relay.park(), relay.park()]);
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const caught = new Promise<unknown>(resolve => process.once('uncaughtException', resolve));
    try {
      relay.plane.splice(a.leg, b.leg, new Float64Array(4), () => {
        throw new Error('thrown by a test');
      });
      a.client.reset();
      b.client.reset();
      expect(String(await within('the exception', caught))).toBe('Error: thrown by a test');
    } finally {
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    const next = await relay.pair();
    next.a.sendText('on it goes');
    expect(await next.b.nextText()).toBe('on it goes');
    next.a.reset();
    next.b.reset();
    await relay.empty();
  });

  test('remotePort() knows TCP, and is 0 for Unix sockets and closed ones', async () => {
    const { client, leg } = await relay.park();
    const ws = relay.wsOf(leg);
    expect(relay.plane.remotePort(ws)).toBe(client.socket.localPort);
    client.reset();
    await relay.empty();
    expect(relay.plane.remotePort(ws)).toBe(0);

    await using unix = await startNativeRelay('unix');
    const other = await unix.park();
    expect(relay.plane.remotePort(unix.wsOf(other.leg))).toBe(0);
    other.client.reset();
  });

  test('stats() counts ends by cause', async () => {
    const before = relay.plane.stats();
    const { a, b } = await relay.pair();
    expect(relay.plane.stats()).toMatchObject({ legs: 2, splices: 1, parkedLegs: 0 });
    a.write(Uint8Array.of(0xff, 0xff));
    await a.nextClose();
    a.fin();
    b.fin();
    await relay.empty();
    const after = relay.plane.stats();
    expect(after.attachedTotal - before.attachedTotal).toBe(2);
    expect(after.splicedTotal - before.splicedTotal).toBe(1);
    expect(after.endsTotal['protocol-error'] - before.endsTotal['protocol-error']).toBe(1);
    expect(after.endsTotal['pair-ended'] - before.endsTotal['pair-ended']).toBe(1);
  });

  test('app.close() ends every pair and leg, and tells', async () => {
    const other = await startNativeRelay();
    const { ended } = await other.pair();
    const delivered = await other.park();
    const gone = new Promise<void>(resolve => {
      other.plane.deliver(delivered.leg, { ...ignoring(), gone: resolve });
    });
    await other.park();
    other.stop();
    await within('the end', ended);
    await within('gone', gone);
    await other.empty();
  });
});
