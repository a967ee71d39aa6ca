import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dialSender, openListener } from '../support/azure-clients.ts';
import { startProcesses, type NodeProcess } from '../support/cluster-processes.ts';
import { DATA_PLANES } from '../support/data-planes.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/within.ts';

// uWebSockets.js complains past our log, once for each sender that it is told to let in outside of a cork.

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

/** What a node has written that is no entry of its log. */
function complaints(node: NodeProcess): string[] {
  return node.lines.filter(line => !line.startsWith('{'));
}

describe.each(DATA_PLANES)('standard error stays empty on $dataPlane', ({ dataPlane }) => {
  test.each([
    ['one node, whose listener is its own', ['node-a']],
    ['two nodes, one of them without a listener', ['node-a', 'node-b']],
  ])('as %s let senders in', async (_name, nodeIds) => {
    await using cluster = await startProcesses({
      redisUrl: redis.url,
      nodeIds,
      options: { dataPlane, redisPrefix: `${dataPlane}-${nodeIds.length}` },
    });
    const [home] = cluster.nodes;
    if (home === undefined) throw new Error('No node');
    const listener = await openListener(home.relay);
    for (const node of cluster.nodes) {
      for (let i = 0; i < 10; i += 1) {
        const sender = dialSender(node.relay);
        const own = await listener.acceptNext();
        const { socket } = await sender.answer;
        socket?.send(`${i}`);
        expect(await own.nextText()).toBe(`${i}`);
        await own.reset();
        await socket?.reset();
      }
    }
    // What was written has come once something written later has.
    for (const node of cluster.nodes) await node.drain();
    await until('the ends of the logs', () =>
      cluster.nodes.every(node => node.lines.some(line => line.includes('"drained"'))),
    );
    expect(cluster.nodes.flatMap(complaints)).toEqual([]);
  });
});
