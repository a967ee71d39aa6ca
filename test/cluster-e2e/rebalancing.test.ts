// A node that joins two others behind HAProxy, and gets its share of the listeners that are there.
import { expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import { startProcesses } from '../support/cluster-processes.ts';
import { startClusterProxy } from '../support/cluster-proxy.ts';
import { requesting, Traffic, untilKnown } from '../support/cluster-watch.ts';
import { untilWhole } from '../support/cluster.ts';
import { startRedis } from '../support/redis.ts';
import { relayAt, type TestRelay } from '../support/relay.ts';
import { StayingListener, startListeners } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

/** Most listen together; `a` has one only, whose senders notice every moment without it. */
const LISTENERS = 300;
/** A minute of a real cluster; what follows from it is shorter in proportion. */
const INTERVAL_MS = 3_000;

test(
  'a third node gets its share, no connect fails meanwhile that is tried twice, and then nothing moves',
  { timeout: 180_000 },
  async () => {
    await using redis = await startRedis(['--maxmemory-policy', 'noeviction']);
    await using cluster = await startProcesses({
      redisUrl: redis.url,
      nodeIds: ['node-a', 'node-b'],
      options: {
        trustedProxies: '127.0.0.1/32',
        listenersMax: `${LISTENERS * 2}`,
        rebalanceIntervalMs: `${INTERVAL_MS}`,
      },
    });
    const third = await cluster.add('node-c');
    const { nodes } = cluster;
    await using proxy = await startClusterProxy(
      'haproxy',
      nodes.map(({ port }) => port),
      { tls: false },
    );
    const [first] = nodes;
    if (first === undefined) throw new Error('there are nodes');
    const relay = relayAt({ port: proxy.port, adminPort: 0 }, first.relay);
    const shares = async (): Promise<readonly number[]> =>
      Promise.all(
        nodes
          .filter(({ isRunning }) => isRunning)
          .map(async node => node.relay.metric('halfway_cluster_listeners{where="here"}')),
      );
    const listeners = await startListeners(LISTENERS, () => new StayingListener(relay));
    listeners.push(new StayingListener(relay, { path: 'a' }));
    const closes = (): readonly number[] => listeners.flatMap(one => one.closes);
    try {
      await until('the last one listens', () => listeners.every(one => one.isListening));
      await untilKnown(first, LISTENERS + 1);
      const before = await shares();
      const connects = connectingTwice(relay, 'a');
      const requests = [requesting(relay), requesting(relay, '/a')];
      const pair = (await dialSender(relay).answer).socket;
      const startedAtMs = performance.now();
      await third.start();
      await untilWhole(nodes.map(node => node.relay));
      const stillAtMs = await untilStill(() => closes().length, 3 * INTERVAL_MS);
      const after = await shares();
      const tries = await connects.stop();
      const answers = (await Promise.all(requests.map(async one => one.stop()))).flat();
      console.log(
        `rebalancing: ${before.join(', ')} became ${after.join(', ')} in ` +
          `${Math.round(stillAtMs - startedAtMs)} ms with ${closes().length} moves; ` +
          `${tries.length} connects, of which ${tries.filter(one => one.length > 1).length} tried twice, ` +
          `${answers.length} requests`,
      );
      expect(tries.map(one => one.at(-1)).filter(status => status !== 101)).toEqual([]);
      expect(answers.filter(status => status !== 200)).toEqual([]);
      expect(Math.min(...after)).toBeGreaterThan((LISTENERS / 3) * 0.7);
      expect(Math.max(...after)).toBeLessThan((LISTENERS / 3) * 1.3);
      // Asked, and never cut; and a joined pair is nobody's business.
      expect(new Set(closes())).toEqual(new Set([1001]));
      pair?.send('still here');
      expect(await pair?.nextText()).toBe('still here');
      expect(listeners.every(one => one.isListening)).toBe(true);
    } finally {
      await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
    }
  },
);

/** Connects one sender after another, each a second time when it is refused; how each try was answered. */
function connectingTwice(to: TestRelay, path: string): Traffic<readonly number[]> {
  const once = async (): Promise<number> => {
    const { status, socket } = await dialSender(to, path).answer;
    await socket?.reset();
    return status;
  };
  return new Traffic(async () => {
    const first = await once();
    return first === 101 ? [first] : [first, await once()];
  });
}

/** Waits until something has happened, and then nothing for so long; when it happened last. */
async function untilStill(count: () => number, quietMs: number): Promise<number> {
  let [seen, atMs] = [count(), performance.now()];
  await until(
    'nothing moves any more',
    () => {
      if (count() !== seen) [seen, atMs] = [count(), performance.now()];
      return seen > 0 && performance.now() - atMs > quietMs;
    },
    120_000,
  );
  return atMs;
}
