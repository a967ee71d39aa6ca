import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeClosePayload, OPCODES, type Frame } from '../../src/protocol/frames.ts';
import { clientFrame, nodeFrame } from '../support/frame-client.ts';
import {
  startNativeRelay,
  type LegKind,
  type NativeRelay,
  type TestPair,
} from '../support/native-relay.ts';
import { within } from '../support/within.ts';

interface Course {
  readonly kinds: readonly [LegKind, LegKind];
  readonly listenOn: 'tcp' | 'unix';
}

const COURSES: readonly Course[] = [
  { kinds: ['websocket', 'websocket'], listenOn: 'tcp' },
  // As behind the TLS terminator.
  { kinds: ['websocket', 'websocket'], listenOn: 'unix' },
  { kinds: ['raw', 'websocket'], listenOn: 'tcp' },
  { kinds: ['websocket', 'raw'], listenOn: 'tcp' },
  { kinds: ['raw', 'raw'], listenOn: 'tcp' },
];

/** What a splice means: data-plane.md. Between clients, and where one or both ends are other nodes. */
describe.each(COURSES)('splice() $kinds on $listenOn', ({ kinds, listenOn }) => {
  let relay: NativeRelay;
  beforeAll(async () => {
    relay = await startNativeRelay(listenOn);
  });
  afterEach(async () => {
    await relay.cutAll();
  });
  afterAll(async () => {
    await relay[Symbol.asyncDispose]();
  });
  const pair = (): Promise<TestPair> => relay.pair({ kinds });
  const parkA = (): ReturnType<NativeRelay['adopt']> =>
    kinds[0] === 'raw' ? relay.adopt() : relay.park();

  test('passes text and binary both ways, and counts them', async () => {
    const { a, b, counters, ended } = await pair();
    a.sendText('to b');
    b.send(OPCODES.binary, Uint8Array.of(1, 2, 3));
    expect(await b.nextText()).toBe('to b');
    expect(await a.next()).toEqual(received(OPCODES.binary, Uint8Array.of(1, 2, 3)));
    expect([...counters]).toEqual([4, 3, 1, 1]);
    await politeEnd({ a, b });
    expect(await ended).toEqual({
      a: { closeCode: 1000, cause: 'close', lingered: false },
      b: { closeCode: 1000, cause: 'close', lingered: false },
      first: 'a',
      bytesFromA: 4,
      bytesFromB: 3,
      framesFromA: 1,
      framesFromB: 1,
    });
  });

  test('passes Close with code and reason, then the answer, and ends TCP', async () => {
    const { a, b, ended } = await pair();
    a.sendClose(4321, 'gründlich fertig');
    expect(await b.nextClose()).toEqual({ code: 4321, reason: 'gründlich fertig' });
    b.sendClose(3000, 'gut');
    expect(await a.nextClose()).toEqual({ code: 3000, reason: 'gut' });
    await Promise.all([a.nextEnd(), b.nextEnd()]);
    a.fin();
    b.fin();
    const end = await within('the end', ended);
    expect([end.first, end.a.closeCode, end.b.closeCode]).toEqual(['a', 4321, 3000]);
  });

  test('passes a Close without code as it is', async () => {
    const { a, b, ended } = await pair();
    b.sendClose();
    expect(await a.next()).toEqual(received(OPCODES.close, new Uint8Array(0)));
    a.sendClose();
    expect(await b.nextClose()).toEqual({ code: 1005, reason: '' });
    a.fin();
    b.fin();
    const end = await within('the end', ended);
    expect([end.first, end.a.closeCode, end.b.closeCode]).toEqual(['b', 1005, 1005]);
  });

  test('lets B go on after the Close of A, until its own', async () => {
    const { a, b } = await pair();
    a.sendClose(1000);
    expect((await b.nextClose()).code).toBe(1000);
    for (let i = 0; i < 300; i += 1) b.sendText(`still ${i}`);
    for (let i = 0; i < 300; i += 1) expect(await a.nextText()).toBe(`still ${i}`);
    b.sendClose(1000);
    expect((await a.nextClose()).code).toBe(1000);
    a.fin();
    b.fin();
    await relay.empty();
  });

  if (kinds[0] === 'websocket') {
    test('lets B go on after Close and FIN of A', async () => {
      const { a, b } = await pair();
      a.sendClose(1000);
      a.fin();
      expect((await b.nextClose()).code).toBe(1000);
      for (let i = 0; i < 300; i += 1) b.sendText(`still ${i}`);
      for (let i = 0; i < 300; i += 1) expect(await a.nextText()).toBe(`still ${i}`);
      b.sendClose(1000);
      expect((await a.nextClose()).code).toBe(1000);
      await a.nextEnd();
      b.fin();
      await relay.empty();
    });
  } else {
    test('ends B after Close and FIN of another node, which takes nothing more', async () => {
      const { a, b, ended } = await pair();
      a.sendClose(1000);
      a.fin();
      expect((await b.nextClose()).code).toBe(1000);
      await b.nextEnd();
      b.sendText('nobody takes this');
      b.fin();
      await a.nextEnd();
      const end = await within('the end', ended);
      expect([end.first, end.a.cause, end.a.closeCode]).toEqual(['a', 'close', 1000]);
      expect(end.b.cause).toBe('pair-ended');
    });
  }

  test('throws away what A sends after its Close', async () => {
    const { a, b } = await pair();
    a.write(
      Buffer.concat([
        a.frame(OPCODES.close, encodeClosePayload(1000)),
        a.frame(OPCODES.text, 'too late'),
        Buffer.from('and garbage'),
      ]),
    );
    expect((await b.nextClose()).code).toBe(1000);
    b.sendClose(1000);
    await b.nextEnd();
    a.fin();
    b.fin();
    await relay.empty();
  });

  test('passes ping and pong with their payload, and answers none itself', async () => {
    const { a, b } = await pair();
    const longest = new Uint8Array(125).fill(7);
    a.send(OPCODES.ping, 'are you there');
    expect(await b.next()).toEqual(received(OPCODES.ping, Buffer.from('are you there')));
    b.send(OPCODES.pong, 'are you there');
    b.send(OPCODES.ping, longest);
    expect(await a.next()).toEqual(received(OPCODES.pong, Buffer.from('are you there')));
    expect(await a.next()).toEqual(received(OPCODES.ping, longest));
    a.sendText('nothing between');
    expect(await b.nextText()).toBe('nothing between');
    await politeEnd({ a, b });
  });

  test('passes fragments as they come, with a ping between and an empty one', async () => {
    const { a, b } = await pair();
    a.write(
      Buffer.concat([
        a.frame(OPCODES.text, 'one', { isFinal: false }),
        a.frame(OPCODES.ping, 'p'),
        a.frame(OPCODES.continuation, '', { isFinal: false, mask: 1 }),
        a.frame(OPCODES.continuation, 'two', { mask: 0xffff_ffff }),
      ]),
    );
    expect(await frames(b, 4)).toEqual([
      received(OPCODES.text, Buffer.from('one'), false),
      received(OPCODES.ping, Buffer.from('p')),
      received(OPCODES.continuation, new Uint8Array(0), false),
      received(OPCODES.continuation, Buffer.from('two')),
    ]);
    await politeEnd({ a, b });
  });

  test('passes a frame whose every byte comes alone', async () => {
    const { a, b, counters } = await pair();
    const bytes = Buffer.concat([
      a.frame(OPCODES.text, 'slowly'),
      a.frame(OPCODES.binary, new Uint8Array(130).fill(9)),
      a.frame(OPCODES.close, encodeClosePayload(1001, 'done')),
    ]);
    for (const byte of bytes) {
      a.write(Uint8Array.of(byte));
      await nextIteration();
    }
    expect(await b.nextText()).toBe('slowly');
    expect(await b.next()).toEqual(received(OPCODES.binary, new Uint8Array(130).fill(9)));
    expect(await b.nextClose()).toEqual({ code: 1001, reason: 'done' });
    expect([...counters]).toEqual([136, 0, 2, 0]);
    b.sendClose(1001);
    a.fin();
    b.fin();
    await relay.empty();
  });

  test.each([2, 8, 14])('passes frames cut at each place of a header of %i bytes', async size => {
    const { a, b } = await pair();
    const payload = new Uint8Array(size === 2 ? 5 : size === 8 ? 300 : 65_536).fill(size);
    const frame = a.frame(OPCODES.binary, payload, { mask: 0x0102_0304 });
    const two = Buffer.concat([frame, frame]);
    for (let cut = 1; cut < 16; cut += 1) {
      // The cut lies in the second header, so that something stands in front of it.
      a.write(two.subarray(0, frame.length + cut));
      await nextIteration();
      a.write(two.subarray(frame.length + cut));
      for (const got of await frames(b, 2)) {
        expect(got.firstByte).toBe(0x82);
        expect(Buffer.compare(got.payload, payload)).toBe(0);
      }
    }
    await politeEnd({ a, b });
  });

  test.each([0, 1, 125, 126, 65_535, 65_536])('passes a frame of %i bytes whole', async size => {
    const { a, b } = await pair();
    const payload = pattern(size);
    a.send(OPCODES.binary, payload);
    const got = await b.next();
    expect([got?.firstByte, got?.payload.length]).toEqual([0x82, size]);
    expect(payload.equals(got?.payload ?? new Uint8Array(0))).toBe(true);
    await politeEnd({ a, b });
  });

  test.each([65_537, 131_072, 131_073, 1_000_000, 3_000_000])(
    'passes a frame of %i bytes as fragments of 65,536',
    async size => {
      const { a, b, counters } = await pair();
      const payload = pattern(size);
      a.write(Buffer.concat([a.frame(OPCODES.binary, payload), a.frame(OPCODES.text, 'next')]));
      const count = Math.ceil(size / 65_536);
      const parts = await frames(b, count);
      expect(parts.map(part => part.payload.length)).toEqual(
        Array.from({ length: count }, (_, i) => Math.min(65_536, size - i * 65_536)),
      );
      expect(parts.map(part => part.opcode)).toEqual([
        OPCODES.binary,
        ...Array.from({ length: count - 1 }, () => OPCODES.continuation),
      ]);
      expect(parts.map(part => part.isFinal)).toEqual(parts.map((_, i) => i === count - 1));
      expect(Buffer.concat(parts.map(part => part.payload)).equals(payload)).toBe(true);
      expect(await b.nextText()).toBe('next');
      expect([...counters]).toEqual([size + 4, 0, 2, 0]);
      await politeEnd({ a, b });
    },
  );

  test('keeps a long fragment within its message', async () => {
    const { a, b } = await pair();
    a.send(OPCODES.text, new Uint8Array(65_537).fill(97), { isFinal: false });
    a.send(OPCODES.continuation, 'end');
    const parts = await frames(b, 3);
    expect(parts.map(part => [part.opcode, part.isFinal, part.payload.length])).toEqual([
      [OPCODES.text, false, 65_536],
      [OPCODES.continuation, false, 1],
      [OPCODES.continuation, true, 3],
    ]);
    await politeEnd({ a, b });
  });

  test('passes half a frame before the other half is sent', async () => {
    const { a, b } = await pair();
    b.keepsBytes = true;
    const frame = a.frame(OPCODES.binary, new Uint8Array(1000).fill(5));
    a.write(frame.subarray(0, frame.length - 500));
    const first = await bytesOf(b, 504);
    expect([...first.subarray(0, 5)]).toEqual([0x82, 126, 3, 232, 5]);
    a.write(frame.subarray(frame.length - 500));
    expect((await bytesOf(b, 500)).every(byte => byte === 5)).toBe(true);
    a.reset();
    b.reset();
    await relay.empty();
  });

  test('tells B of the loss of A by Close 1001 between frames, and by FIN alone within one', async () => {
    const between = await pair();
    between.a.sendText('last');
    between.a.fin();
    expect(await between.b.nextText()).toBe('last');
    expect((await between.b.nextClose()).code).toBe(1001);
    await between.b.nextEnd();
    between.b.fin();
    const end = await within('the end', between.ended);
    expect([end.first, end.a.cause, end.a.closeCode]).toEqual(['a', 'lost', 1006]);
    expect([end.b.cause, end.b.closeCode]).toEqual(['pair-ended', 1006]);

    const inside = await pair();
    inside.a.write(inside.a.frame(OPCODES.binary, new Uint8Array(100)).subarray(0, 50));
    inside.a.fin();
    await inside.b.nextEnd();
    inside.b.fin();
    await relay.empty();
  });

  test('tells B of a reset of A', async () => {
    const { a, b, ended } = await pair();
    a.reset();
    expect((await b.nextClose()).code).toBe(1001);
    await b.nextEnd();
    b.fin();
    expect((await within('the end', ended)).a).toEqual({
      closeCode: 1006,
      cause: 'lost',
      lingered: false,
    });
  });

  test('gives B its own code back when A is lost after the Close of B', async () => {
    const { a, b } = await pair();
    b.sendClose(4007, 'bye');
    expect((await a.nextClose()).code).toBe(4007);
    a.reset();
    expect((await b.nextClose()).code).toBe(4007);
    await b.nextEnd();
    b.fin();
    await relay.empty();
  });

  test('tells the loss by the configured code', async () => {
    relay.plane.configure({ lostCode: 1011 });
    const { a, b } = await pair();
    a.reset();
    expect((await b.nextClose()).code).toBe(1011);
    relay.plane.configure({ lostCode: 1001 });
    b.fin();
    await relay.empty();
  });

  test('delivers what came before pairing: one byte, a frame, two megabytes', async () => {
    for (const size of [1, 10, 2_000_000]) {
      const a = await parkA();
      const payload = pattern(size);
      const bytes = a.client.frame(OPCODES.binary, payload);
      a.client.write(size === 1 ? bytes.subarray(0, 1) : bytes);
      await eventually(() => relay.plane.legStats(a.leg)?.heldBytes !== 0);
      const b = await relay.park();
      relay.splice(a.leg, b.leg);
      if (size === 1) a.client.write(bytes.subarray(1));
      const parts = await frames(b.client, Math.ceil(size / 65_536));
      expect(Buffer.concat(parts.map(part => part.payload)).equals(payload)).toBe(true);
      await politeEnd({ a: a.client, b: b.client });
    }
  });

  if (kinds[0] === 'websocket') {
    test('drops bytes that came in one piece with the handshake, and goes on', async () => {
      const early = Buffer.from(clientFrame(OPCODES.text, 'early'));
      const a = await relay.park({}, early);
      const b = await relay.park();
      relay.splice(a.leg, b.leg);
      a.client.sendText('in time');
      expect(await b.client.nextText()).toBe('in time');
      await politeEnd({ a: a.client, b: b.client });
    });
  } else {
    test('passes what was read of a stream before it was adopted, cut anywhere', async () => {
      const frame = nodeFrame(OPCODES.binary, pattern(300));
      for (let cut = 0; cut <= frame.length; cut += cut < 12 ? 1 : 48) {
        const a = await relay.adopt(frame.subarray(0, cut));
        expect(relay.plane.legStats(a.leg)?.heldBytes).toBe(cut);
        const b = await relay.park();
        relay.splice(a.leg, b.leg);
        a.client.write(frame.subarray(cut));
        expect(pattern(300).equals((await b.client.next())?.payload ?? Buffer.alloc(0))).toBe(true);
        await politeEnd({ a: a.client, b: b.client });
      }
    });
  }

  test('forgets a parked leg whose client leaves, before and after it has sent something', async () => {
    const silent = await parkA();
    silent.client.fin();
    await silent.client.nextEnd();
    await relay.empty();

    const talker = await parkA();
    talker.client.sendText('hello?');
    await eventually(() => relay.plane.legStats(talker.leg)?.heldBytes !== 0);
    talker.client.fin();
    // A socket that is not read reports nothing: the sweep looks.
    await eventually(() => {
      relay.plane.sweep();
      return relay.plane.legStats(talker.leg) === undefined;
    });
    await talker.client.nextEnd();
  });
});

const HEADER_OPTIONS = { isMasked: false } as const;

function received(opcode: number, payload: Uint8Array, isFinal = true): Frame {
  return {
    ...HEADER_OPTIONS,
    firstByte: (isFinal ? 0x80 : 0) | opcode,
    opcode,
    isFinal,
    payload: new Uint8Array(payload),
  };
}

async function frames(client: TestPair['a'], count: number): Promise<Frame[]> {
  const got: Frame[] = [];
  while (got.length < count) {
    const frame = await client.next();
    if (frame === undefined) throw new Error(`The end after ${got.length} of ${count} frames`);
    got.push(frame);
  }
  return got;
}

async function bytesOf(client: TestPair['a'], count: number): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  await eventually(() => {
    bytes = Buffer.concat([bytes, client.takeBytes()]);
    return bytes.length >= count;
  });
  return bytes;
}

async function politeEnd({ a, b }: Pick<TestPair, 'a' | 'b'>): Promise<void> {
  a.sendClose(1000);
  await b.nextClose();
  b.sendClose(1000);
  await a.nextClose();
  await Promise.all([a.nextEnd(), b.nextEnd()]);
  a.fin();
  b.fin();
  await Promise.all([a.closed, b.closed]);
}

function pattern(size: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) & 255));
}

/** Server and clients share a loop: what was written is read before this resolves. */
function nextIteration(): Promise<void> {
  return new Promise(resolve => void setImmediate(resolve));
}

async function eventually(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5_000;
  while (!isSo()) {
    if (performance.now() > deadlineMs) throw new Error(`Not so after 5 s: ${String(isSo)}`);
    await nextIteration();
  }
}
