// What stands for `startRelay` where the suites of single relays run against a cluster: three nodes, and
// HAProxy before them, which sends each connection to the next.
import { onTestFinished } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import type { RunningServer } from '../../src/server.ts';
import type { StatusReport } from '../../src/transports/status-page.ts';
import { startClusterProxy } from './cluster-proxy.ts';
import { startCluster, type TestCluster } from './cluster.ts';
import { MemoryLog, relayAt, type RelayOptions, type TestRelay } from './relay.ts';
import { startRedis } from './redis.ts';

/** It ends with its test, behind the hooks of its suite: a client that is still there would find nobody. */
export async function startBalancedRelay(
  options: RelayOptions = {},
  deps: { readonly clock?: Clock; readonly namespaces?: readonly NamespaceDescription[] } = {},
): Promise<TestRelay> {
  const redis = await startRedis(['--maxmemory-policy', 'noeviction']);
  const { tlsCert, tlsKey: _, ...others } = options;
  const tls = tlsCert !== undefined;
  const cluster = await startCluster({
    redisUrl: redis.url,
    options: { ...others, trustedProxies: '127.0.0.1/32' },
    ...deps,
  });
  const ports = cluster.nodes.map(({ port }) => port);
  // One that is busy for a second with what its test does would be taken for dead.
  const proxy = await startClusterProxy('haproxy', ports, { tls, checkMs: 10_000 });
  const { nodes } = cluster;
  const stop = async (): Promise<void> => {
    await proxy[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  };
  const endsWithTest = wasTakenByTest(stop);
  const server = serverOf(cluster, proxy.port);
  return {
    ...relayAt(
      { port: proxy.port, adminPort: server.adminPort, tls },
      { server, log: logOf(nodes) },
    ),
    async metric(series) {
      const values = await Promise.all(nodes.map(async node => node.metric(series)));
      return values.reduce((sum, value) => sum + value, 0);
    },
    [Symbol.asyncDispose]: async () => (endsWithTest ? undefined : stop()),
  };
}

/** False in a suite's own hooks, where there is no test: the suite ends the relay behind its clients. */
function wasTakenByTest(stop: () => Promise<void>): boolean {
  try {
    onTestFinished(stop);
    return true;
  } catch {
    return false;
  }
}

/** The lines of all nodes; a node's own order is kept. */
function logOf(nodes: readonly TestRelay[]): MemoryLog {
  const log = new MemoryLog();
  Object.defineProperty(log, 'lines', { get: () => nodes.flatMap(node => node.log.lines) });
  return log;
}

function serverOf({ nodes }: TestCluster, port: number): RunningServer {
  const [first] = nodes;
  if (first === undefined) throw new Error('A cluster has nodes');
  return {
    ...first.server,
    port,
    stop: async () => {},
    status: () => nodes.map(node => node.server.status()).reduce(both),
  };
}

function both(one: StatusReport, other: StatusReport): StatusReport {
  const named = new Map(other.hybridConnections.map(each => [each.name, each]));
  return {
    ...one,
    listeners: one.listeners + other.listeners,
    senders: one.senders + other.senders,
    waitingSenders: one.waitingSenders + other.waitingSenders,
    hybridConnections: one.hybridConnections.map(each => {
      const same = named.get(each.name);
      if (same === undefined) return each;
      return {
        ...each,
        listeners: each.listeners + same.listeners,
        pairs: each.pairs + same.pairs,
        requests: each.requests + same.requests,
        bytesToListener: each.bytesToListener + same.bytesToListener,
        bytesToSender: each.bytesToSender + same.bytesToSender,
      };
    }),
  };
}
