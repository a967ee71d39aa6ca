import type { Clock } from '../base/clock.ts';
import { openRedis, type RedisClientOptions } from '../redis/client.ts';
import { KEY_PREFIX_DEFAULT } from '../redis/keys.ts';
import type { RedisTarget } from '../redis/redis-url.ts';
import { DIRECTORY_TIMES, FEED_CHANGES_MAX, type DirectoryTimes } from './limits.ts';
import type { ListenerDirectory, MeshVersions } from './listener-directory.ts';
import { MemberDirectory } from './member-directory.ts';
import { RedisCoordinator } from './redis-coordinator.ts';

export interface RedisDirectoryOptions {
  readonly node: string;
  readonly meshAddress: string;
  readonly versions: MeshVersions;
  readonly clock: Clock;
  readonly reportBug: (bug: unknown) => void;
  readonly target: RedisTarget;
  readonly passwordFile?: string;
  readonly sentinelPasswordFile?: string;
  readonly tlsCa?: string;
  /** Several clusters share a Redis by different prefixes. */
  readonly keyPrefix?: string;
  readonly times?: Partial<DirectoryTimes>;
  readonly commandTimeoutMs?: number;
  readonly feedChangesMax?: number;
}

/** How long a step may take at Redis before Redis counts as away. */
export const COMMAND_TIMEOUT_MS = 2_000;

/** A directory in Redis, over two connections: one for steps, one that waits for changes. */
export function openRedisDirectory(options: RedisDirectoryOptions): ListenerDirectory {
  const { clock, node, meshAddress, versions, reportBug } = options;
  const times = { ...DIRECTORY_TIMES, ...options.times };
  const commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
  const connection = (use: string, blockingMsMax: number): RedisClientOptions => ({
    target: options.target,
    clock,
    connectionName: `halfway:${node}:${use}`,
    commandTimeoutMs,
    blockingMsMax,
    ...pick(options),
  });
  const coordinator = new RedisCoordinator({
    commands: openRedis(connection('directory', 0)),
    feed: openRedis(connection('feed', times.feedWaitMs)),
    keyPrefix: options.keyPrefix ?? KEY_PREFIX_DEFAULT,
    feedChangesMax: options.feedChangesMax ?? FEED_CHANGES_MAX,
  });
  return new MemberDirectory({
    coordinator,
    clock,
    times,
    node,
    meshAddress,
    versions,
    reportBug,
  });
}

function pick({ passwordFile, sentinelPasswordFile, tlsCa }: RedisDirectoryOptions) {
  return {
    ...(passwordFile === undefined ? {} : { passwordFile }),
    ...(sentinelPasswordFile === undefined ? {} : { sentinelPasswordFile }),
    ...(tlsCa === undefined ? {} : { tlsCa }),
  };
}
