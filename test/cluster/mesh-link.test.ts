import { describe, expect, test } from 'vitest';
import { MeshLink } from '../../src/cluster/mesh-link.ts';
import { MESH_DEFAULTS } from '../../src/cluster/mesh-options.ts';
import { WireCounters } from '../../src/cluster/mesh-wire.ts';
import { MESH_MESSAGE_BYTES_MAX, type MeshMessage } from '../../src/protocol/mesh-frames.ts';
import { meshHeadOf, meshMessage } from '../../src/protocol/mesh-messages.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import {
  introduce,
  QUICK_LIMITS,
  startMeshNode,
  startPair,
  type MeshNodeOptions,
  type TestMeshNode,
} from '../support/mesh-node.ts';
import { until, within } from '../support/within.ts';

/** A whole ping more than the limit, and room for a machine that has other things to do. */
const SILENCE_NOTICED_MS = QUICK_LIMITS.silenceMs + QUICK_LIMITS.pingIntervalMs + 1_000;

describe('a link', () => {
  test('carries messages and bodies both ways', async () => {
    await using pair = await startPair();
    const { a, b } = pair;
    expect(a.mesh.send('b', settled('one'))).toBe(true);
    const offer = { id: 'x', listenerKey: 'k', text: '{}', hasBody: true };
    expect(b.mesh.send('a', meshMessage('offer', offer, Buffer.from('body')))).toBe(true);
    const atB = await b.heard.next();
    expect(atB.from).toBe('a');
    expect(meshHeadOf('settled', atB.message)).toEqual({ id: 'one' });
    const atA = await a.heard.next();
    expect(meshHeadOf('offer', atA.message)).toEqual(offer);
    expect(Buffer.from(atA.message.body).toString()).toBe('body');
  });

  test('is one for both directions, and there is none to nobody', async () => {
    await using pair = await startPair();
    expect(pair.a.mesh.stats().links).toEqual({ up: 1, dialling: 0, apart: 0 });
    expect(pair.b.mesh.stats().links).toEqual({ up: 1, dialling: 0, apart: 0 });
    expect(pair.a.mesh.send('nobody', settled('x'))).toBe(false);
    expect(await pair.a.mesh.request('nobody', settled('x'), 1_000)).toEqual({
      type: 'failed',
      why: 'down',
    });
  });

  test('each of three nodes has one to each other', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b' });
    await using c = await startMeshNode({ nodeId: 'c' });
    introduce(a, b, c);
    for (const node of [a, b, c]) {
      await until(`${node.nodeId} has two links`, () => node.mesh.stats().links.up === 2);
    }
    a.mesh.send('c', settled('from a'));
    c.mesh.send('b', settled('from c'));
    expect((await c.heard.next()).from).toBe('a');
    expect((await b.heard.next()).from).toBe('c');
  });

  test('carries the longest message, and refuses a longer one', async () => {
    await using pair = await startPair();
    const longest = new Uint8Array(MESH_MESSAGE_BYTES_MAX - 100);
    expect(pair.a.mesh.send('b', { ...settled('x'), body: longest })).toBe(true);
    expect((await pair.b.heard.next()).message.body.length).toBe(longest.length);
    const longer = new Uint8Array(MESH_MESSAGE_BYTES_MAX);
    expect(pair.a.mesh.send('b', { ...settled('x'), body: longer })).toBe(false);
    expect(pair.a.mesh.stats().counters.refused).toBe(1);
    expect(pair.a.mesh.isUp('b')).toBe(true);
  });

  test('works with certificates just as well', async () => {
    const { makeMeshCertificate } = await import('../support/mesh-certificates.ts');
    const credentials = { certificates: makeMeshCertificate() };
    await using pair = await startPair({ credentials }, { credentials });
    for (let i = 0; i < 200; i += 1) {
      pair.a.mesh.send('b', { ...settled(`${i}`), body: new Uint8Array(i * 100) });
    }
    for (let i = 0; i < 200; i += 1) {
      const { message } = await pair.b.heard.next();
      expect(meshHeadOf('settled', message)).toEqual({ id: `${i}` });
      expect(message.body.length).toBe(i * 100);
    }
  });
});

describe('request()', () => {
  test('gives each question its own answer, whatever their order', async () => {
    await using pair = await startPair();
    const questions = ['one', 'two', 'three'].map(id =>
      pair.a.mesh.request('b', settled(id), 5_000),
    );
    const heard = [await pair.b.heard.next(), await pair.b.heard.next(), await pair.b.heard.next()];
    for (const { message, answer } of heard.toReversed()) {
      expect(answer?.({ ...message, head: { to: message.head['id'] } })).toBe(true);
    }
    const replies = await Promise.all(questions);
    expect(replies.map(reply => reply.type === 'answered' && reply.message.head['to'])).toEqual([
      'one',
      'two',
      'three',
    ]);
  });

  test('is late when no answer comes in time; one that comes after that is counted', async () => {
    await using pair = await startPair();
    const reply = await pair.a.mesh.request('b', settled('x'), 30);
    expect(reply).toEqual({ type: 'failed', why: 'late' });
    const { message, answer } = await pair.b.heard.next();
    answer?.(message);
    await until('a stray answer', () => pair.a.mesh.stats().counters.strayAnswers === 1);
  });

  test('is down when the link breaks first, and the answer goes nowhere', async () => {
    await using pair = await startPair();
    const question = pair.a.mesh.request('b', settled('x'), 5_000);
    const { message, answer } = await pair.b.heard.next();
    await pair.a.mesh.close();
    expect(await question).toEqual({ type: 'failed', why: 'down' });
    expect(await pair.b.events.next()).toBe('down a closing');
    expect(answer?.(message)).toBe(false);
  });

  test('is not understood by a node that does not know the kind; others go on', async () => {
    await using pair = await startPair();
    const fromTheFuture: MeshMessage = { kind: 200, head: {}, body: new Uint8Array(0) };
    pair.a.mesh.send('b', fromTheFuture);
    const reply = await pair.a.mesh.request('b', fromTheFuture, 5_000);
    expect(reply).toEqual({ type: 'failed', why: 'not-understood' });
    expect(pair.b.mesh.stats().counters.notUnderstood).toBe(2);
    pair.a.mesh.send('b', settled('x'));
    await pair.b.heard.next();
  });

  test('is full when too many wait', async () => {
    await using pair = await startPair({ limits: { linkRequestsMax: 2 } });
    const first = [1, 2].map(() => pair.a.mesh.request('b', settled('x'), 50));
    expect(await pair.a.mesh.request('b', settled('x'), 50)).toEqual({
      type: 'failed',
      why: 'full',
    });
    expect(await Promise.all(first)).toHaveLength(2);
  });

  test('a bug in whoever takes messages is reported and ends nothing', async () => {
    await using pair = await startPair(
      {},
      {
        onMessage: ({ answer, message }) => {
          if (message.head['id'] === 'bad') throw new Error('A bug');
          answer?.(message);
        },
      },
    );
    pair.a.mesh.send('b', settled('bad'));
    expect(await pair.a.mesh.request('b', settled('good'), 5_000)).toMatchObject({
      type: 'answered',
    });
    expect(pair.b.bugs).toHaveLength(1);
  });
});

describe('back-pressure', () => {
  test('100,000 messages arrive in order though the queue is often full', async () => {
    const count = 100_000;
    // Together more than the kernel keeps for a connection.
    const body = new Uint8Array(200);
    let next = 0;
    let isInOrder = true;
    await using pair = await startPair(
      { limits: { linkQueueBytesMax: 128 * 1024 } },
      {
        onMessage: ({ message }) => {
          isInOrder &&= message.head['id'] === String(next);
          next += 1;
        },
      },
    );
    let refused = 0;
    for (let sent = 0; sent < count;) {
      if (pair.a.mesh.send('b', { ...settled(String(sent)), body })) sent += 1;
      else {
        refused += 1;
        expect(await pair.a.events.next()).toBe('drained b');
      }
    }
    await until('all arrive', () => next === count, 20_000);
    expect(isInOrder).toBe(true);
    expect(refused).toBeGreaterThan(0);
    expect(pair.a.mesh.stats().counters.refused).toBe(refused);
  });

  test('a peer that takes nothing fills the queue to its limit and no further', async () => {
    await using line = await startLine({
      limits: { linkQueueBytesMax: 1_000_000, silenceMs: 5_000 },
    });
    line.proxy.stall('to-target');
    const body = new Uint8Array(100_000);
    await until('the queue is full', async () => {
      await new Promise(resolve => void setImmediate(resolve));
      return !line.a.mesh.send('b', { ...settled('x'), body });
    });
    // What the kernel takes on the way makes room now and then.
    expect(line.a.mesh.stats().queuedBytes).toBeLessThanOrEqual(1_000_000);
    line.proxy.flow();
    expect(await line.a.events.next()).toBe('drained b');
    expect(line.a.mesh.send('b', settled('last'))).toBe(true);
    for (;;) {
      const { message } = await line.b.heard.next();
      if (message.head['id'] === 'last') break;
    }
    expect(line.a.mesh.isUp('b')).toBe(true);
  });
});

describe('a link that fails', () => {
  test('cut: both notice at once, and it is made anew', async () => {
    await using line = await startLine();
    line.proxy.cut();
    expect(await line.a.events.next()).toBe('down b lost');
    expect(await line.b.events.next()).toBe('down a lost');
    expect(await line.a.events.next()).toBe('up b');
    expect(await line.b.events.next()).toBe('up a');
    line.a.mesh.send('b', settled('after'));
    expect((await line.b.heard.next()).message.head['id']).toBe('after');
  });

  test.each([
    ['from the one that dials', 'to-target'],
    ['to the one that dials', 'to-client'],
  ] as const)(
    'stalled %s only: whoever hears nothing ends it in time',
    async (_name, direction) => {
      await using line = await startLine();
      const deaf = direction === 'to-target' ? line.b : line.a;
      const other = direction === 'to-target' ? line.a : line.b;
      line.proxy.stall(direction);
      const startedAtMs = performance.now();
      expect(await deaf.events.next()).toBe(`down ${other.nodeId} silent`);
      const tookMs = performance.now() - startedAtMs;
      expect(tookMs).toBeGreaterThanOrEqual(
        QUICK_LIMITS.silenceMs - 2 * QUICK_LIMITS.pingIntervalMs,
      );
      expect(tookMs).toBeLessThan(SILENCE_NOTICED_MS);
      line.proxy.flow();
      await until('both are linked again', () => line.a.mesh.isUp('b') && line.b.mesh.isUp('a'));
      line.a.mesh.send('b', settled('after'));
      expect((await line.b.heard.next()).message.head['id']).toBe('after');
    },
  );

  test('stalled for less than the limit: nothing is lost', async () => {
    await using line = await startLine({ limits: { silenceMs: 10_000 } });
    line.proxy.stall('to-target', 'to-client');
    for (let i = 0; i < 100; i += 1) line.a.mesh.send('b', settled(`${i}`));
    await until('pings are on their way', () => line.a.mesh.stats().counters.messagesSent > 101);
    line.proxy.flow();
    for (let i = 0; i < 100; i += 1) {
      expect((await line.b.heard.next()).message.head['id']).toBe(`${i}`);
    }
    expect(line.a.events.size).toBe(0);
  });

  test('slow: a link over a long way stands', async () => {
    await using line = await startLine();
    line.proxy.delay(100);
    const reply = line.a.mesh.request('b', settled('x'), 5_000);
    const { message, answer } = await line.b.heard.next();
    answer?.(message);
    expect(await reply).toMatchObject({ type: 'answered' });
    await until(
      'round trips are measured',
      () => (line.a.mesh.links()[0]?.roundTripMs ?? 0) >= 190,
    );
    expect(line.a.events.size).toBe(0);
  });

  test('unreachable for a while: dialled again with growing waits, and told by what it was', async () => {
    await using line = await startLine();
    line.proxy.refuse(true);
    line.proxy.cut();
    expect(await line.a.events.next()).toBe('down b lost');
    await until('three attempts', () => {
      const state = line.a.mesh.links()[0]?.state;
      return state !== undefined && 'attempts' in state && state.attempts >= 3;
    });
    line.proxy.refuse(false);
    expect(await line.a.events.next()).toBe('up b');
  });

  test('replaced: a peer that lost its end comes in anew, and the old end gives way', async () => {
    // The one that is dialled believes in the old connection for long; only the dialler notices.
    await using line = await startLine(
      { limits: { silenceMs: 300 } },
      { limits: { silenceMs: 60_000 } },
    );
    line.proxy.stall('to-client', 'to-target');
    expect(await line.a.events.next()).toBe('down b silent');
    await using way = await startFaultProxy(line.b.mesh.port);
    line.a.list.set([line.b.node(way.port)]);
    expect(await line.a.events.next()).toBe('up b');
    expect(await line.b.events.next()).toBe('down a replaced');
    expect(await line.b.events.next()).toBe('up a');
    line.b.mesh.send('a', settled('x'));
    expect((await line.a.heard.next()).from).toBe('b');
  });

  test('nonsense on a link ends it, and both say so', async () => {
    await using line = await startLine();
    line.proxy.inject('to-target', Buffer.from('ffffffffff', 'hex'), Buffer.alloc(20, 0xff));
    expect(await line.b.events.next()).toBe('down a broken-frames');
    expect(await line.a.events.next()).toBe('down b broken-frames');
    const atA = await line.a.logged('MeshLinkDown', 'broken-frames');
    expect(atA.fields['detail']).toBe('oversized');
  });
});

describe('what the directory says', () => {
  test('a node that is gone from it keeps its link as long as that stands', async () => {
    await using line = await startLine();
    line.a.list.set([]);
    line.b.list.set([]);
    line.a.mesh.send('b', settled('still'));
    await line.b.heard.next();
    line.proxy.cut();
    expect(await line.a.events.next()).toBe('down b lost');
    expect(await line.b.events.next()).toBe('down a lost');
    expect(line.a.mesh.links()).toEqual([]);
    expect(line.b.mesh.links()).toEqual([]);
  });

  test('another process under the id: the link with the old one is ended', async () => {
    await using pair = await startPair();
    pair.a.list.set([{ ...pair.b.node(), epoch: 'next-life-of-b.1' }]);
    expect(await pair.a.events.next()).toBe('down b wrong-process');
    expect(await pair.b.events.next()).toBe('down a wrong-process');
    await pair.a.logged('MeshLinkRefused', 'wrong-process');
    pair.a.list.set([pair.b.node()]);
    expect(await pair.a.events.next()).toBe('up b');
  });

  test('a node at a new address is dialled there at once', async () => {
    await using a = await startMeshNode({
      nodeId: 'a',
      limits: { backOff: { firstMs: 60_000, longestMs: 60_000 } },
    });
    await using b = await startMeshNode({ nodeId: 'b' });
    a.list.set([{ ...b.node(), meshAddress: '127.0.0.1:1' }]);
    await a.logged('MeshLinkRefused', 'unreachable');
    a.list.set([b.node()]);
    expect(await a.events.next()).toBe('up b');
  });
});

describe('MeshLink', () => {
  const node = { nodeId: 'b', epoch: 'life-of-b.1', meshAddress: '192.0.2.1:1' };

  test('waits longer and longer between attempts, up to the longest wait', async () => {
    const { clock, link, dials } = lonelyLink({ dials: true });
    link.know(node);
    const waits: number[] = [];
    for (let attempt = 0; attempt < 9; attempt += 1) {
      const startedAtMs = clock.nowMs();
      while (dials.length === attempt) clock.advance(1);
      waits.push(clock.nowMs() - startedAtMs);
      await new Promise(resolve => void setImmediate(resolve));
    }
    expect(waits).toEqual([1, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    link.close('closing');
    expect(clock.pendingTasks).toBe(0);
  });

  test('that waits to be dialled in vain says so once', () => {
    const { clock, link, dials, warnings } = lonelyLink({ dials: false });
    link.know(node);
    clock.advance(9_999);
    expect(warnings).toEqual([]);
    clock.advance(100_000);
    expect(warnings).toEqual([
      'mesh link missing: that node should dial this one; can it reach our advertised address?',
    ]);
    expect(dials).toEqual([]);
  });

  test('no longer dials a node that the directory has forgotten', () => {
    const { clock, link, dials } = lonelyLink({ dials: true });
    link.know(node);
    link.know(undefined);
    clock.advance(100_000);
    expect(dials).toEqual([]);
  });
});

describe('a mesh with as many links as it may have', () => {
  test('refuses another, and says why', async () => {
    await using a = await startMeshNode({ nodeId: 'a' });
    await using b = await startMeshNode({ nodeId: 'b' });
    await using c = await startMeshNode({ nodeId: 'c', limits: { linksMax: 1 } });
    a.list.set([c.node()]);
    expect(await c.events.next()).toBe('up a');
    b.list.set([c.node()]);
    await b.logged('MeshLinkRefused', 'links-max');
    await c.logged('MeshConnectionRefused', 'links-max');
    c.list.set([a.node(), b.node()]);
    expect(c.mesh.links()).toHaveLength(1);
  });
});

describe('close()', () => {
  test('says goodbye, sends what is queued, and is safe to call twice', async () => {
    await using pair = await startPair();
    for (let i = 0; i < 1_000; i += 1) pair.a.mesh.send('b', settled(`${i}`));
    await pair.a.mesh.close();
    await pair.a.mesh.close();
    for (let i = 0; i < 1_000; i += 1) await pair.b.heard.next();
    expect(await pair.a.events.next()).toBe('down b closing');
    expect(await pair.b.events.next()).toBe('down a closing');
    expect(pair.a.mesh.send('b', settled('x'))).toBe(false);
  });

  test('leaves nothing behind that keeps a process alive', async () => {
    const pair = await startPair();
    await within('close', Promise.resolve(pair[Symbol.asyncDispose]()));
    expect(pair.a.mesh.stats()).toMatchObject({ strangers: 0, queuedBytes: 0 });
    expect(pair.a.mesh.links().every(({ state }) => state.phase === 'closed')).toBe(true);
  });
});

function settled(id: string): MeshMessage {
  return meshMessage('settled', { id });
}

const nothing = (): void => {};

/** A link that reaches nobody, and time that stands still. */
function lonelyLink(options: { readonly dials: boolean }) {
  const clock = new FakeClock();
  const dials: string[] = [];
  const warnings: string[] = [];
  const log = { debug: nothing, info: nothing, error: nothing };
  const link = new MeshLink('b', options, {
    clock,
    random: { uuid: () => '', secretHex: () => '', below: () => 0 },
    log: { ...log, warn: (_fields, message) => warnings.push(message) },
    limits: MESH_DEFAULTS,
    counters: new WireCounters(),
    dial: node => {
      dials.push(node.meshAddress);
      return Promise.resolve({ ended: { reason: 'unreachable', by: 'us' } });
    },
    onMessage: nothing,
    onDrained: nothing,
    onRoundTrip: nothing,
    onUp: nothing,
    onDown: nothing,
    onRefused: nothing,
  });
  return { clock, link, dials, warnings };
}

/** Nodes `a` and `b`, linked through a proxy: `a` dials, so "to-target" is from a to b. */
async function startLine(
  a: Partial<MeshNodeOptions> = {},
  b: Partial<MeshNodeOptions> = a,
): Promise<
  {
    readonly a: TestMeshNode;
    readonly b: TestMeshNode;
    readonly proxy: FaultProxy;
  } & AsyncDisposable
> {
  const nodeA = await startMeshNode({ nodeId: 'a', ...a });
  const nodeB = await startMeshNode({ nodeId: 'b', ...b });
  const proxy = await startFaultProxy(nodeB.mesh.port);
  nodeB.list.set([nodeA.node()]);
  nodeA.list.set([nodeB.node(proxy.port)]);
  await Promise.all([nodeA.events.next(), nodeB.events.next()]);
  return {
    a: nodeA,
    b: nodeB,
    proxy,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([nodeA[Symbol.asyncDispose](), nodeB[Symbol.asyncDispose]()]);
      await proxy[Symbol.asyncDispose]();
    },
  };
}
