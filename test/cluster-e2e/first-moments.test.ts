// A sender that comes when its listener is hardly there, or on its way to another node.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { listen } from '../support/http-listener.ts';
import { send } from '../support/http-sender.ts';
import { open } from '../support/raw-websocket.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { TestRelay } from '../support/relay.ts';

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
