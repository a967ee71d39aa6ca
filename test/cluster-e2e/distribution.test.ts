// Who is asked, and what an address is worth, when sender, listener and rendezvous are on nodes of their own.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { dialListener, dialSender, openListener } from '../support/azure-clients.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { listen, type HttpListener } from '../support/http-listener.ts';
import { send } from '../support/http-sender.ts';
import { dial, open, type DialOptions } from '../support/raw-websocket.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { TestRelay } from '../support/relay.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

let redis: TestRedis;
let cluster: TestCluster;
let [a, b, c]: TestRelay[] = [];
beforeAll(async () => {
  redis = await startRedis(['--maxmemory-policy', 'noeviction']);
});
afterAll(async () => redis[Symbol.asyncDispose]());

/** Of the node that keeps a rendezvous, at the end of its id. */
const TAG_CHARS = 8;

let started = 0;
/** A cluster for each test: what one test leaves behind must not listen in the next. */
beforeEach(async () => {
  started += 1;
  cluster = await startCluster({
    redisUrl: redis.url,
    redisPrefix: `test-${started}`,
    options: { drainDelayMs: 0, drainTimeoutMs: 10_000 },
  });
  [a, b, c] = cluster.nodes;
  return async () => cluster[Symbol.asyncDispose]();
});

function nodes(): readonly [TestRelay, TestRelay, TestRelay] {
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  return [a, b, c];
}

/** Waits until every node knows so many listeners. */
async function untilKnown(listeners: number): Promise<void> {
  await until('every node knows all listeners', async () => {
    const counts = await Promise.all(
      nodes().map(
        async node =>
          (await node.metric('halfway_cluster_listeners{where="here"}')) +
          (await node.metric('halfway_cluster_listeners{where="elsewhere"}')),
      ),
    );
    return counts.every(count => count === listeners);
  });
}

/** The address as a listener would dial it at another node. */
function at(node: TestRelay, address: string): string {
  return address.replace(/^ws:\/\/[^/]+/, node.wsUrl);
}

/** Sends a request to a node, and takes it at its listener. */
async function asked(listener: HttpListener, node: TestRelay, body?: string) {
  const answer = send(node, '/hyco', body === undefined ? {} : { method: 'POST', body });
  return { answer, received: await listener.next() };
}

/** A sender on the second node, put before a listener on the first. */
async function waiting() {
  const [first, second] = nodes();
  const control = await openListener(first);
  await untilKnown(1);
  const dialling = dialSender(second);
  const { address, id } = await control.nextAccept();
  return { dialling, address, id };
}

/** A handshake that takes this subprotocol. */
function protocol(name: string): DialOptions {
  return { headers: [['Sec-WebSocket-Protocol', name]] };
}

test('listeners on all nodes each get some, whichever node the sender is on', async () => {
  const listeners = nodes().map(node => new StayingListener(node));
  try {
    await untilKnown(3);
    for (const node of nodes()) {
      for (let i = 0; i < 30; i += 1) {
        const { status, socket } = await dialSender(node).answer;
        expect(status).toBe(101);
        await socket?.reset();
      }
    }
    // 30 expected each; by chance alone fewer than 10 come to one in a million runs.
    for (const { taken } of listeners) expect(taken).toBeGreaterThan(9);
  } finally {
    await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
  }
});

test('requests are spread as well', async () => {
  const listeners = nodes().map((node, i) => new StayingListener(node, { name: String(i) }));
  try {
    await untilKnown(3);
    const answers = await Promise.all(
      Array.from({ length: 90 }, async (_, i) => send(nodes()[i % 3] ?? nodes()[0], '/hyco')),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    for (const { answered } of listeners) expect(answered).toBeGreaterThan(9);
  } finally {
    await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
  }
});

describe('routing headers', () => {
  test('choose among listeners of all nodes, or leave nobody', async () => {
    const ids = nodes().map(() => randomUUID());
    const listeners = nodes().map((node, i) => new StayingListener(node, { id: ids[i] ?? '' }));
    try {
      await untilKnown(3);
      const [first = '', second = '', third = ''] = ids;
      for (const node of nodes()) {
        for (const [header, value] of [
          ['Microsoft-Relay-AllowedListeners', third],
          ['Microsoft-Relay-DisallowedListeners', `${first}, ${second}`],
        ] as const) {
          const answer = await dialSender(node, 'hyco', { headers: [[header, value]] }).answer;
          expect(answer.status).toBe(101);
        }
      }
      await until('the third has them all', () => listeners[2]?.taken === 6);
      expect(listeners.map(({ taken }) => taken)).toEqual([0, 0, 6]);
      const nobody = await dialSender(nodes()[1], 'hyco', {
        headers: [['Microsoft-Relay-DisallowedListeners', ids.join(',')]],
      }).answer;
      expect([nobody.status, nobody.reason]).toEqual([
        404,
        expect.stringMatching(/^None of the connected listeners meet/),
      ]);
    } finally {
      await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
    }
  });
});

test('the 26th listener is refused on whatever node it comes to', async () => {
  const all = nodes();
  for (let i = 0; i < 25; i += 1) await openListener(all[i % 3] ?? all[0]);
  for (const node of all) {
    const refused = await dialListener(node).answer;
    expect(refused.status).toBe(403);
    expect(refused.reason).toMatch(/^QuotaExceeded: MaximumListenersPerEndpoint/);
  }
});

test('of many that come to all nodes at once, 25 get in', async () => {
  const all = nodes();
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => dialListener(all[i % 3] ?? all[0]).answer),
  );
  expect(answers.filter(({ status }) => status === 101)).toHaveLength(25);
  expect(answers.filter(({ status }) => status === 403)).toHaveLength(35);
});

test('a listener that leaves makes room for one on another node', async () => {
  const all = nodes();
  const first = await openListener(all[0]);
  for (let i = 1; i < 25; i += 1) await openListener(all[i % 3] ?? all[0]);
  expect((await dialListener(all[1]).answer).status).toBe(403);
  first.control.sendClose(1000);
  await first.control.ended();
  await until('there is room', async () => (await dialListener(all[1]).answer).status === 101);
});

describe('a request', () => {
  test.each([0, 1, 2])('is answered on node %i, to which its listener moved', async to => {
    const [first, second] = nodes();
    const before = await listen(first);
    await untilKnown(1);
    const { answer, received } = await asked(before, second);
    const after = await listen(nodes()[to] ?? first);
    await before[Symbol.asyncDispose]();
    after.answer(received, { status: 201, body: 'from elsewhere' }, after.control);
    expect(await answer).toMatchObject({ status: 201, body: Buffer.from('from elsewhere') });
    await after[Symbol.asyncDispose]();
  });

  test('that a listener does not take any more, because its node drains, goes to another one', async () => {
    const [first, second] = nodes();
    await using busy = await listen(second);
    await untilKnown(1);
    const { answer, received } = await asked(busy, first);
    // It keeps its channel until it has answered, and is known to all for so long.
    const drained = second.server.drain();
    await using other = new StayingListener(first);
    await untilKnown(2);
    const startedAtMs = performance.now();
    for (let i = 0; i < 20; i += 1) {
      const body = i % 2 === 0 ? {} : { method: 'POST', body: 'a body' };
      expect((await send(first, '/hyco', body)).status).toBe(200);
    }
    expect(performance.now() - startedAtMs).toBeLessThan(4_000);
    expect(other.answered).toBe(20);
    busy.answer(received, { status: 201 });
    expect((await answer).status).toBe(201);
    await drained;
  });

  test('takes its first answer, wherever it comes from', async () => {
    const [first, second, third] = nodes();
    await using one = await listen(first);
    await untilKnown(1);
    const { answer, received } = await asked(one, second);
    await using other = await listen(third);
    other.answer(received, { status: 202 }, other.control);
    expect((await answer).status).toBe(202);
    // The late one breaks nothing: the same channel answers the next request.
    one.answer(received, { status: 500 });
    await other[Symbol.asyncDispose]();
    await untilKnown(1);
    const next = await asked(one, second);
    one.answer(next.received);
    expect((await next.answer).status).toBe(200);
  });
});

describe('an accept address', () => {
  test.each([0, 1, 2])('is good on node %i, once', async index => {
    const node = nodes()[index] ?? nodes()[0];
    const { dialling, address } = await waiting();
    const listener = await open(at(node, address));
    const { status, socket: sender } = await dialling.answer;
    expect(status).toBe(101);
    for (const other of nodes()) {
      const again = await dial(at(other, address)).answer;
      expect(again.status).toBe(403);
      expect(again.reason).toMatch(/^Unknown Connection ID: /);
    }
    sender?.send('hello');
    expect(await listener.nextText()).toBe('hello');
    listener.send('here');
    expect(await sender?.nextText()).toBe('here');
  });

  test('is good for one of many who dial it on all nodes at once', async () => {
    const { dialling, address } = await waiting();
    const dialled = Array.from({ length: 21 }, (_, i) => at(nodes()[i % 3] ?? nodes()[0], address));
    const answers = await Promise.all(dialled.map(url => dial(url).answer));
    const statuses = answers.map(({ status }) => status).toSorted((x, y) => x - y);
    expect(statuses).toEqual([101, ...Array.from({ length: 20 }, () => 403)]);
    expect((await dialling.answer).status).toBe(101);
  });

  test('forged, or with the tag of another node, is worth nothing anywhere', async () => {
    const { dialling, address, id } = await waiting();
    const [first, second, third] = nodes();
    const control = await openListener(third, 'a');
    const other = dialSender(third, 'a');
    const foreignTag = (await control.nextAccept()).id.slice(-TAG_CHARS);
    await other.abandon();
    const bare = id.slice(0, -TAG_CHARS);
    expect(id.slice(-TAG_CHARS)).not.toBe(foreignTag);
    const forged = [
      bare,
      bare + foreignTag,
      bare + '0'.repeat(TAG_CHARS),
      bare.slice(0, -1) + (bare.endsWith('0') ? '1' : '0') + id.slice(-TAG_CHARS),
    ];
    for (const guess of forged) {
      for (const node of [first, second, third]) {
        expect((await dial(at(node, address.replace(id, guess))).answer).status, guess).toBe(403);
      }
    }
    await open(at(third, address));
    expect((await dialling.answer).status).toBe(101);
  });

  test.each([0, 1, 2])('rejects from node %i, with status and text', async index => {
    const { dialling, address } = await waiting();
    const node = nodes()[index] ?? nodes()[0];
    const rejection = `${at(node, address)}&sb-hc-statusCode=418&sb-hc-statusDescription=no%20tea`;
    expect((await dial(rejection).answer).status).toBe(410);
    const answer = await dialling.answer;
    expect([answer.status, answer.reason]).toEqual([418, 'no tea']);
  });

  test('takes a subprotocol on any node, and only one that was offered', async () => {
    const [first, second, third] = nodes();
    const control = await openListener(first);
    await untilKnown(1);
    const headers = [['Sec-WebSocket-Protocol', 'v2, v1']] as const;
    const dialling = dialSender(second, 'hyco', { headers });
    const { address } = await control.nextAccept();
    expect((await dial(at(third, address), protocol('v3')).answer).status).toBe(400);
    const dialled = await dial(at(third, address), protocol('v1')).answer;
    expect(dialled.headers).toContainEqual(['Sec-WebSocket-Protocol', 'v1']);
    expect((await dialling.answer).headers).toContainEqual(['Sec-WebSocket-Protocol', 'v1']);
  });
});
