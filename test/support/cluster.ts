import type { Clock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/load.ts';
import { startServer } from '../../src/server.ts';
import type { NamespaceDescription } from '../../src/protocol/resources.ts';
import { relayAt, MemoryLog, NAMESPACE, type RelayOptions, type TestRelay } from './relay.ts';
import { until } from './within.ts';

export const CLUSTER_SECRET = 'secret-that-all-nodes-of-a-test-share-0123456789';
/** Names in the order in which nodes are started; in no order of their addresses. */
export const NODE_IDS = ['node-a', 'node-b', 'node-c'] as const;
const WHOLE_MS = 15_000;

export interface ClusterOptions {
  readonly redisUrl: string;
  /** One for each cluster that shares a Redis. */
  readonly redisPrefix?: string;
  readonly nodeIds?: readonly string[];
  /** Options of every node by their names. */
  readonly options?: RelayOptions;
  readonly clock?: Clock;
  readonly namespaces?: readonly NamespaceDescription[];
}

/** Nodes in this process; `nodes[i]` is as a client sees one that dials it and no other. */
export interface TestCluster extends AsyncDisposable {
  readonly nodes: readonly TestRelay[];
  start(nodeId: string, options?: RelayOptions): Promise<TestRelay>;
}

/** A cluster in this process, each node linked with all others. */
export async function startCluster(cluster: ClusterOptions): Promise<TestCluster> {
  const nodes: TestRelay[] = [];
  const start = async (nodeId: string, options: RelayOptions = {}): Promise<TestRelay> => {
    const log = new MemoryLog();
    const config = clusterConfig(nodeId, cluster, options);
    const server = await startServer(
      { ...config, namespaces: cluster.namespaces ?? [NAMESPACE] },
      { log, ...(cluster.clock === undefined ? {} : { clock: cluster.clock }) },
    );
    const node = relayAt({ port: server.port, adminPort: server.adminPort }, { server, log });
    nodes.push(node);
    return node;
  };
  const nodeIds = cluster.nodeIds ?? NODE_IDS;
  await Promise.all(nodeIds.map(async nodeId => start(nodeId)));
  await untilWhole(nodes);
  return {
    nodes,
    start,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map(async node => node.server.stop()));
    },
  };
}

/** Waits until each of these nodes knows all others, and is linked with them. */
export async function untilWhole(
  nodes: readonly Pick<TestRelay, 'metric'>[],
  patienceMs = WHOLE_MS,
): Promise<void> {
  const others = nodes.length - 1;
  await until(
    'all nodes are linked',
    async () => {
      const counts = await Promise.all(
        nodes.map(async node => [
          await node.metric('halfway_cluster_nodes'),
          await node.metric('halfway_mesh_links{state="up"}'),
        ]),
      );
      return counts.every(([known, links]) => known === nodes.length && links === others);
    },
    patienceMs,
  );
}

function clusterConfig(nodeId: string, cluster: ClusterOptions, options: RelayOptions) {
  const { apiToken, ...others } = { ...cluster.options, ...options };
  const flags = {
    port: 0,
    adminPort: 0,
    autoCreate: false,
    dispatch: false,
    nodeId,
    redis: cluster.redisUrl,
    redisPrefix: cluster.redisPrefix ?? 'halfway',
    meshHost: '127.0.0.1',
    meshPort: 0,
    // As on machines of their own, unless the test says otherwise.
    meshLocal: 'off',
    ...others,
  };
  const loaded = loadConfig({
    purpose: 'dev',
    flags: Object.fromEntries(Object.entries(flags).map(([name, value]) => [name, String(value)])),
    env: {
      HALFWAY_MESH_SECRET: CLUSTER_SECRET,
      ...(apiToken === undefined ? {} : { HALFWAY_API_TOKEN: String(apiToken) }),
    },
    readFile: path => {
      throw new Error(`Unexpected read of ${path}`);
    },
    hostName: nodeId,
  });
  if ('faults' in loaded) throw new Error(loaded.faults.join('\n'));
  return loaded.config;
}
