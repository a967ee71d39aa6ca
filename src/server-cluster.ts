import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Clock } from './base/clock.ts';
import type { Logger } from './base/logger.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import type { Hops } from './cluster/hops.ts';
import type { MeshCredentials } from './cluster/mesh-credentials.ts';
import { ClusterError, openCluster, type OpenCluster } from './cluster/open-cluster.ts';
import { openRedisDirectory } from './cluster/redis-directory.ts';
import { parseRedisUrl, type RedisTarget } from './redis/redis-url.ts';
import type { Meter, Randomness } from './relay/ports.ts';
import type { OpenDataPlane } from './transports/data-plane.ts';

export interface ClusterParts {
  readonly clock: Clock;
  readonly random: Randomness;
  readonly log: Logger;
  readonly meter: Meter;
  readonly dataPlane: OpenDataPlane;
  readonly hops: Hops;
}

/** Makes this process a node of a cluster, where the configuration says so. Rejects with `StartError`. */
export async function joinCluster(
  config: Config,
  parts: ClusterParts,
): Promise<OpenCluster | undefined> {
  if (config.redis === undefined) return undefined;
  const { clock, random, log, meter } = parts;
  const target = redisTarget(config);
  const reportBug = (bug: unknown): void => log.error({ err: bug }, 'bug in the cluster');
  try {
    return await openCluster(
      {
        nodeId: config.nodeId,
        listenersMax: config.listenersMax,
        mesh: {
          host: config.meshHost,
          port: config.meshPort,
          advertise: config.meshAdvertise ?? reachableHost(config.meshHost),
          credentials: meshCredentials(config),
        },
      },
      {
        clock,
        random,
        log,
        meter,
        reportBug,
        openDirectory: node =>
          openRedisDirectory({ ...node, clock, target, keyPrefix: config.redisPrefix, reportBug }),
        channelOf: stream => parts.dataPlane.streamChannel(stream) ?? stream.channel(),
        joinHop: (rendezvous, stream) => parts.hops.join(rendezvous, stream),
      },
    );
  } catch (error) {
    if (error instanceof ClusterError) throw new StartError(error.message, { cause: error });
    throw error;
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
