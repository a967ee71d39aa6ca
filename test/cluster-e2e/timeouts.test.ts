// Time limits where sender, control channel and rendezvous are on nodes of their own.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { closeOf, listen, responseText } from '../support/http-listener.ts';
import { headOf, openRequest, pattern, send, wholeOf } from '../support/http-sender.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { TestRelay } from '../support/relay.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

/** Short enough to wait for. */
const LIMIT_MS = 600;
/** What a busy machine may take beyond. */
const BUSY_MS = 3_000;
/** Longer than fits a control channel: the listener fetches it at a rendezvous. */
const LARGE_BODY_BYTES = 200_000;

let redis: TestRedis;
let cluster: TestCluster;
beforeAll(async () => {
  redis = await startRedis(['--maxmemory-policy', 'noeviction']);
});
afterAll(async () => redis[Symbol.asyncDispose]());

let started = 0;
beforeEach(async () => {
  started += 1;
  const [acceptTimeoutMs, requestTimeoutMs, responseIdleTimeoutMs] = [LIMIT_MS, LIMIT_MS, LIMIT_MS];
  cluster = await startCluster({
    redisUrl: redis.url,
    redisPrefix: `timeouts-${started}`,
    options: { acceptTimeoutMs, requestTimeoutMs, responseIdleTimeoutMs },
  });
});
afterEach(async () => cluster[Symbol.asyncDispose]());

/** Of the control channel, of the sender, and of the rendezvous. */
function nodes(): readonly [TestRelay, TestRelay, TestRelay] {
  const [a, b, c] = cluster.nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  return [a, b, c];
}

async function untilKnown(listeners: number): Promise<void> {
  await until('the sender’s node knows all listeners', async () => {
    const [, sender] = nodes();
    const here = await sender.metric('halfway_cluster_listeners{where="here"}');
    return (
      here + (await sender.metric('halfway_cluster_listeners{where="elsewhere"}')) === listeners
    );
  });
}

/** Milliseconds until it is over. */
async function tookMs(over: Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await over;
  return performance.now() - startedAtMs;
}

function expectInTime(ms: number, limitMs = LIMIT_MS): void {
  expect(ms).toBeGreaterThan(limitMs - 50);
  expect(ms).toBeLessThan(limitMs + BUSY_MS);
}

test('a listener elsewhere that does not dial: 504', async () => {
  const [listeners, senders] = nodes();
  const control = await openListener(listeners);
  await untilKnown(1);
  const dialling = dialSender(senders).answer;
  expectInTime(await tookMs(dialling));
  const { status, reason } = await dialling;
  expect([status, reason]).toEqual([504, expect.stringMatching(/within the allotted time/)]);
  // The address is worth nothing any more, anywhere.
  const { address } = await control.nextAccept();
  await using http = await listen(listeners);
  for (const node of nodes()) {
    const refused = await http.dialRefused(address.replace(/^ws:\/\/[^/]+/, node.wsUrl));
    expect(refused.status).toBe(403);
  }
});

test('a listener elsewhere that does not dial within a third of that: another one is asked', async () => {
  const [listeners, senders, others] = nodes();
  const silent = await openListener(listeners);
  await untilKnown(1);
  const dialling = dialSender(senders).answer;
  await silent.nextAccept();
  await using other = new StayingListener(others);
  expect((await dialling).status).toBe(101);
  await until('it was the other one', () => other.taken === 1);
});

test('a listener elsewhere that does not answer: 504, and its late answer is nobody’s', async () => {
  const [listeners, senders] = nodes();
  await using listener = await listen(listeners);
  await untilKnown(1);
  const answer = send(senders, '/hyco');
  const late = await listener.next();
  expectInTime(await tookMs(answer));
  expect((await answer).status).toBe(504);
  listener.answer(late, { body: 'late' });
  const next = send(senders, '/hyco');
  listener.answer(await listener.next(), { body: 'in time' });
  expect((await next).body.toString()).toBe('in time');
});

test('a listener elsewhere that does not fetch what it got an address of: 504', async () => {
  const [listeners, senders] = nodes();
  await using listener = await listen(listeners, { fetches: false });
  await untilKnown(1);
  const body = pattern(LARGE_BODY_BYTES);
  const answer = send(senders, '/hyco', { method: 'POST', body });
  await listener.pointers.next();
  expectInTime(await tookMs(answer));
  expect((await answer).status).toBe(504);
});

test('an answer that stands still on a third node: the sender’s connection breaks, and the listener is told', async () => {
  const [listeners, senders, rendezvous] = nodes();
  await using listener = await listen(listeners);
  await untilKnown(1);
  const request = openRequest(senders, '/hyco');
  const answered = headOf(request);
  request.end();
  const received = await listener.next();
  const socket = await listener.dial(received.address.replace(/^ws:\/\/[^/]+/, rendezvous.wsUrl));
  socket.send(responseText(received.id, { body: '' }));
  socket.send(Buffer.from('begun'), { fin: false });
  const head = await answered;
  const broken = wholeOf(head).then(
    () => 'whole',
    () => 'broken',
  );
  const closed = closeOf(socket);
  expectInTime(await tookMs(broken));
  expect(await broken).toBe('broken');
  expect((await closed).code).toBe(1011);
});
