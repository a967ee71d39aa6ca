// A sender that comes when its listener is hardly there, or on its way to another node.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startCluster, untilWhole, type TestCluster } from '../support/cluster.ts';
import { listen } from '../support/http-listener.ts';
import { send } from '../support/http-sender.ts';
import { open } from '../support/raw-websocket.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { TestRelay } from '../support/relay.ts';
import { until } from '../support/within.ts';

const TIMES = 200;

let redis: TestRedis;
let cluster: TestCluster;
beforeAll(async () => {
  redis = await startRedis(['--maxmemory-policy', 'noeviction']);
  cluster = await startCluster({ redisUrl: redis.url, nodeIds: ['node-a', 'node-b'] });
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

function nodes(): readonly [TestRelay, TestRelay] {
  const [a, b] = cluster.nodes;
  if (a === undefined || b === undefined) throw new Error('two nodes');
  return [a, b];
}

test(
  `a sender that connects to one node right after its listener was let in on another is joined, ${TIMES} times`,
  { timeout: 60_000 },
  async () => {
    const [a, b] = nodes();
    for (let i = 0; i < TIMES; i += 1) {
      const listener = await openListener(a);
      const dialling = dialSender(b);
      const { address } = await listener.nextAccept();
      const rendezvous = await open(address);
      const { status, socket } = await dialling.answer;
      expect(status).toBe(101);
      await Promise.all([rendezvous.reset(), socket?.reset(), listener.control.reset()]);
    }
    const refused = 'halfway_refusals_total{reason="no-listener",role="sender"}';
    expect(await b.metric(refused)).toBe(0);
    const held = await b.metric('halfway_held_senders_total{outcome="offered"}');
    console.log(`first moments: ${held} of ${TIMES} senders were held`);
    expect(await b.metric('halfway_held_senders')).toBe(0);
  },
);

test(`so is a request, ${TIMES} times`, { timeout: 60_000 }, async () => {
  const [a, b] = nodes();
  for (let i = 0; i < TIMES; i += 1) {
    await using listener = await listen(a);
    const answering = send(b, '/hyco');
    listener.answer(await listener.next());
    expect((await answering).status).toBe(200);
  }
  expect(await b.metric('halfway_refusals_total{reason="no-listener",role="http"}')).toBe(0);
});

test('a sender whose only listener was sent away by a node that drains waits until it is back', async () => {
  const [, b] = nodes();
  const c = await cluster.start('node-c');
  await untilWhole(cluster.nodes);
  const listener = await openListener(c);
  const draining = c.server.drain();
  expect((await listener.control.nextFrame()).opcode).toBe(8);
  await listener.control.reset();
  const dialling = dialSender(b);
  await until('it is held', async () => (await b.metric('halfway_held_senders')) === 1);
  // As long as a distant client takes for its handshakes, and longer than a sender waits for no reason.
  await new Promise(resolve => void setTimeout(resolve, 1_000));
  const back = await openListener(b);
  const rendezvous = await open((await back.nextAccept()).address);
  const { status, socket } = await dialling.answer;
  expect(status).toBe(101);
  await Promise.all([rendezvous.reset(), socket?.reset(), back.control.reset()]);
  await draining;
});
