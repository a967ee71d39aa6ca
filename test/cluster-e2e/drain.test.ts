// Nodes that stop and start under load, as a rolling restart does it; and nodes that come.
import { afterEach, expect, test } from 'vitest';
import { dialSender } from '../support/azure-clients.ts';
import {
  startProcesses,
  type NodeProcess,
  type ProcessCluster,
} from '../support/cluster-processes.ts';
import {
  CLUSTER_PROXIES,
  startClusterProxy,
  type ClusterProxy,
  type ClusterProxyName,
} from '../support/cluster-proxy.ts';
import { requesting, untilKnown } from '../support/cluster-watch.ts';
import { untilWhole } from '../support/cluster.ts';
import type { CloseFrame, RawWebSocket } from '../support/raw-websocket.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { relayAt, type TestRelay } from '../support/relay.ts';
import { StayingListener } from '../support/staying-listener.ts';
import { until } from '../support/within.ts';

let redis: TestRedis;
let cluster: ProcessCluster;
let proxy: ClusterProxy;
/** What clients reach: the balancer. */
let relay: TestRelay;

/** Three nodes behind a balancer, each set up as deploy/README.md says. */
async function startBehind(name: ClusterProxyName): Promise<void> {
  redis = await startRedis(['--maxmemory-policy', 'noeviction']);
  const drainPort = name === 'nginx' ? 'closed' : 'open';
  cluster = await startProcesses({
    redisUrl: redis.url,
    options: { trustedProxies: '127.0.0.1/32', drainPort },
  });
  const ports = cluster.nodes.map(({ port }) => port);
  proxy = await startClusterProxy(name, ports, { tls: false });
  relay = relayAt({ port: proxy.port, adminPort: 0 }, nodes()[0].relay);
}

afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

function nodes(): readonly [NodeProcess, NodeProcess, NodeProcess] {
  const [a, b, c] = cluster.nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error('three nodes');
  return [a, b, c];
}

/** A sender that echoes for as long as it may, and how it ended. */
class Pair {
  readonly opened: number = performance.now();
  readonly #sender: RawWebSocket;
  close: CloseFrame | 'cut' | undefined;

  constructor(sender: RawWebSocket) {
    this.#sender = sender;
    void this.#loop();
  }

  async #loop(): Promise<void> {
    try {
      for (let i = 0; ; i += 1) {
        this.#sender.send(`${i}`);
        const frame = await this.#sender.nextFrame(60_000);
        if (frame.opcode === 8) {
          const code = Buffer.from(frame.payload).readUInt16BE();
          this.close = { code, reason: Buffer.from(frame.payload).subarray(2).toString() };
          return;
        }
        await new Promise(resolve => void setTimeout(resolve, 50));
      }
    } catch {
      this.close = 'cut';
    }
  }
}

test.each(CLUSTER_PROXIES)(
  'behind %s a rolling restart loses no request that is sent twice, and ends WebSockets with 1001 after their time only',
  { timeout: 120_000 },
  async name => {
    await startBehind(name);
    const listeners = Array.from({ length: 6 }, () => new StayingListener(relay));
    try {
      await until('all listen', () => listeners.every(one => one.isListening));
      for (const node of nodes()) await untilKnown(node, 6);
      const requests = [requesting(relay), requesting(relay), requesting(relay)];
      const pairs: Pair[] = [];
      for (let i = 0; i < 12; i += 1) {
        const { socket } = await dialSender(relay).answer;
        if (socket !== undefined) pairs.push(new Pair(socket));
      }
      expect(pairs).toHaveLength(12);
      const startedAtMs = performance.now();
      for (const node of nodes()) {
        const before = pairs.filter(({ close }) => close === undefined);
        const stoppedAtMs = performance.now();
        const code = await node.drain();
        expect(code).toBe(0);
        const ended = before.filter(({ close }) => close !== undefined);
        for (const { close } of ended) expect(close).toMatchObject({ code: 1001 });
        // With open pairs it waits for its deadline; without, it ends early.
        if (ended.length > 0) expect(performance.now() - stoppedAtMs).toBeGreaterThan(6_000);
        await node.start();
        await untilWhole(nodes().map(one => one.relay));
        await until('it is sent work', async () => {
          const sent = 'halfway_http_request_duration_seconds_count{code_class="2xx"}';
          return (await node.relay.metric(sent)) > 0;
        });
      }
      const answers = (await Promise.all(requests.map(async one => one.stop()))).flat();
      const lost = answers.filter(status => status !== 200);
      console.log(
        `rolling restart: ${Math.round(performance.now() - startedAtMs)} ms, ${answers.length} requests, ` +
          `${lost.length} lost, ${pairs.filter(({ close }) => close !== undefined).length} pairs ended`,
      );
      expect(lost).toEqual([]);
      for (const { close } of pairs) {
        if (close !== undefined) expect(close).toMatchObject({ code: 1001 });
      }
      // Listeners were asked to move, and never cut.
      expect(new Set(listeners.flatMap(({ closes }) => closes))).toEqual(new Set([1001]));
      expect(listeners.every(one => one.isListening)).toBe(true);
    } finally {
      await Promise.all(listeners.map(async one => one[Symbol.asyncDispose]()));
    }
  },
);

test(
  'a node that comes takes part at once: in what was there before, and in what comes',
  { timeout: 60_000 },
  async () => {
    await startBehind('haproxy');
    const [first, second] = nodes();
    await using early = new StayingListener(first.relay);
    await using other = new StayingListener(second.relay, { path: 'a' });
    await untilKnown(second, 2);
    const fourth = await cluster.add('node-d');
    await fourth.start();
    await untilWhole(cluster.nodes.map(node => node.relay));
    // Those that listened before it came are known to it.
    for (const path of ['hyco', 'a']) {
      const { status, socket } = await dialSender(fourth.relay, path).answer;
      expect(status).toBe(101);
      socket?.send('hello');
      expect(await socket?.nextText()).toBe('hello');
    }
    expect([early.taken, other.taken]).toEqual([1, 1]);
    await using late = new StayingListener(fourth.relay, { path: 'a/b' });
    await until('the others know it', async () => {
      const { status, socket } = await dialSender(first.relay, 'a/b').answer;
      await socket?.reset();
      return status === 101;
    });
    expect(late.taken).toBeGreaterThan(0);
  },
);
