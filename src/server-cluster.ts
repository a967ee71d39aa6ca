import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import type { Coordinator } from './cluster/coordinator.ts';
import type { Hops } from './cluster/hops.ts';
import { DIRECTORY_TIMES } from './cluster/limits.ts';
import { MemberDirectory } from './cluster/member-directory.ts';
import type { MeshCredentials } from './cluster/mesh-credentials.ts';
import { ClusterError, openCluster, type OpenCluster } from './cluster/open-cluster.ts';
import { Rebalancer } from './cluster/rebalancer.ts';
import { openRedisDirectory } from './cluster/redis-directory.ts';
import { openRedis, type RedisClient } from './redis/client.ts';
import { parseRedisUrl, type RedisTarget } from './redis/redis-url.ts';
import type { NamespaceTable } from './relay/namespaces.ts';
import type { Meter, Randomness } from './relay/ports.ts';
import type { Relay } from './relay/relay.ts';
import { listenersByNode } from './server-status.ts';
import { RedisStore } from './store/redis-store.ts';
import type { RelayStore } from './store/relay-store.ts';
import type { OpenDataPlane } from './transports/data-plane.ts';

export interface ClusterParts {
  readonly clock: Clock;
  readonly random: Randomness;
  readonly log: Logger;
  readonly meter: Meter;
  readonly dataPlane: OpenDataPlane;
  readonly hops: Hops;
  /** In place of Redis. */
  readonly coordinator?: Coordinator;
}

/** Makes this process a node of a cluster, where the configuration says so. Rejects with `StartError`. */
export async function joinCluster(
  config: Config,
  parts: ClusterParts,
): Promise<OpenCluster | undefined> {
  const { clock, random, log, meter, coordinator } = parts;
  if (config.redis === undefined && coordinator === undefined) return undefined;
  const reportBug = (bug: unknown): void => log.error({ err: bug }, 'bug in the cluster');
  try {
    return await openCluster(
      {
        nodeId: config.nodeId,
        listenersMax: config.listenersMax,
        pollHoldMs: config.pollHoldMs,
        mesh: {
          host: config.meshHost,
          port: config.meshPort,
          advertise: config.meshAdvertise ?? reachableHost(config.meshHost),
          credentials: meshCredentials(config),
          local: config.meshLocal === 'on',
          handOver: parts.dataPlane.handOver,
        },
      },
      {
        clock,
        random,
        log,
        meter,
        reportBug,
        openDirectory: node =>
          coordinator === undefined
            ? openRedisDirectory({
                ...node,
                clock,
                reportBug,
                target: redisTarget(config),
                keyPrefix: config.redisPrefix,
              })
            : new MemberDirectory({
                ...node,
                clock,
                reportBug,
                coordinator,
                times: DIRECTORY_TIMES,
              }),
        channelOf: stream => parts.dataPlane.streamChannel(stream) ?? stream.channel(),
        joinHop: (rendezvous, stream) => parts.hops.join(rendezvous, stream),
      },
    );
  } catch (error) {
    if (error instanceof ClusterError) throw new StartError(error.message, { cause: error });
    throw error;
  }
}

/** Keeps this node's share of the cluster's listeners fair; what is returned ends that. */
export function startRebalancing(
  config: Config,
  { directory, mesh }: OpenCluster,
  parts: Pick<ClusterParts, 'clock' | 'random' | 'log' | 'meter'> & {
    readonly relay: Relay;
    readonly namespaces: NamespaceTable;
  },
): () => void {
  const { namespaces, ...others } = parts;
  const rebalancer = new Rebalancer({
    ...others,
    directory,
    isOn: config.rebalance === 'on',
    isLinked: node => mesh.isUp(node),
    listenersByNode: () => listenersByNode(directory, namespaces),
    intervalMs: config.rebalanceIntervalMs,
  });
  return () => rebalancer.stop();
}

/** How long a start waits for Redis before it goes on without. */
const REDIS_START_MS = 3_000;
/** How long a step of the store may take: a snapshot of thousands of records is the longest. */
const STORE_TIMEOUT_MS = 10_000;
/** The longest wait for a change, and what it may take beyond. */
const STORE_FEED_MS_MAX = 15_000;

/** Records of the cluster in its Redis; undefined without one. The store closes its connections. */
export async function openClusterStore(
  config: Config,
  clock: Clock,
): Promise<RelayStore | undefined> {
  if (config.redis === undefined) return undefined;
  const commands = openClusterClient(config, clock, { use: 'store', blockingMsMax: 0 });
  const feed = openClusterClient(config, clock, {
    use: 'store-feed',
    blockingMsMax: STORE_FEED_MS_MAX,
  });
  const store = new RedisStore({ commands, feed, keyPrefix: config.redisPrefix });
  await commands.untilUp(REDIS_START_MS);
  return closing(store, () => {
    commands.close();
    feed.close();
  });
}

/** A connection of this node to the cluster's Redis, for a use that its name shows. */
export function openClusterClient(
  config: Config,
  clock: Clock,
  { use, blockingMsMax }: { readonly use: string; readonly blockingMsMax: number },
): RedisClient {
  return openRedis({
    target: redisTarget(config),
    clock,
    connectionName: `halfway:${config.nodeId}:${use}`,
    commandTimeoutMs: STORE_TIMEOUT_MS,
    blockingMsMax,
  });
}

/** The store, which ends by `close` what it stands on. */
function closing(store: RelayStore, close: () => void): RelayStore {
  return {
    shown: store.shown,
    isDurable: store.isDurable,
    isShared: store.isShared,
    snapshot: () => store.snapshot(),
    changesAfter: (position, waitMs) => store.changesAfter(position, waitMs),
    put: (record, guard) => store.put(record, guard),
    delete: (key, expectedVersion) => store.delete(key, expectedVersion),
    restore: records => store.restore(records),
    close: () => {
      store.close();
      close();
    },
  };
}

/** How long a node that starts waits for its links before it takes clients; some node may never be reached. */
const LINKS_WAIT_MS = 2_000;
const LINKS_LOOK_MS = 20;

/** Resolves when every node that is known can be reached: what comes in before finds no listener of theirs. */
export async function untilLinked({ directory, mesh }: OpenCluster, clock: Clock): Promise<void> {
  const deadlineMs = clock.nowMs() + LINKS_WAIT_MS;
  const self = directory.self().node;
  const isLinked = (): boolean =>
    directory.nodes().every(({ node }) => node === self || mesh.isUp(node));
  while (!isLinked() && clock.nowMs() < deadlineMs) {
    await new Promise<void>(resolve => void clock.after(LINKS_LOOK_MS, resolve));
  }
}

function redisTarget(config: Config): RedisTarget {
  const parsed = parseRedisUrl(config.redis ?? '');
  if ('fault' in parsed) throw new StartError(`Cannot use --redis: it ${parsed.fault}`);
  return config.redisPassword === undefined
    ? parsed.target
    : { ...parsed.target, password: config.redisPassword };
}

function meshCredentials(config: Config): MeshCredentials {
  const { meshSecret: secret, meshCert, meshKey, meshCa } = config;
  if (meshCert === undefined || meshKey === undefined || meshCa === undefined) {
    return secret === undefined ? {} : { secret };
  }
  const certificates = { cert: pem(meshCert), key: pem(meshKey), ca: pem(meshCa) };
  return secret === undefined ? { certificates } : { secret, certificates };
}

function pem(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StartError(`Cannot read a mesh certificate: ${why}`, { cause });
  }
}

/** An address that stands for all interfaces says nothing to others. */
function reachableHost(meshHost: string): string {
  return meshHost === '0.0.0.0' || meshHost === '::' ? hostname() : meshHost;
}
