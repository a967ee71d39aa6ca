import type { RedisClient } from '../redis/client.ts';
import { RedisReplyError } from '../redis/errors.ts';
import { compareVersions, parseInfo } from '../redis/server-check.ts';

/** What a Redis server does with writes that it has answered. */
export interface RedisDurability {
  /** Whether WAITAOF must be sent, and tells when what was written before it is on the disk. */
  readonly waits: boolean;
  /** How far apart its writes to the disk are, if it has said so. */
  readonly intervalMs?: number;
  /** '' when nothing answered can be lost; otherwise what can be, when, and what to do. */
  readonly reason: string;
}

/** Oldest Redis that has WAITAOF. */
const WAITAOF_VERSION_MIN = '7.2';

/** Asks a server: one INFO, one CONFIG GET. On a Redis Cluster one node speaks for all. Rejects when Redis is away. */
export async function askDurability(client: RedisClient): Promise<RedisDurability> {
  const info = parseInfo(String(await client.call('INFO', [])));
  return durabilityOf(`Redis at ${client.shown}`, info, await appendFsync(client));
}

/**
 * @param appendfsync the server's setting, or undefined when it does not tell
 */
export function durabilityOf(
  server: string,
  info: ReadonlyMap<string, string>,
  appendfsync: string | undefined,
): RedisDurability {
  if (info.get('aof_enabled') !== '1') {
    const reason = `${server} keeps no append-only file, so what it has answered is lost when it ends: set appendonly yes`;
    return { waits: false, reason };
  }
  // It then answers only what is on the disk.
  if (appendfsync === 'always') return { waits: false, reason: '' };
  const remedy = 'set appendfsync always';
  if (appendfsync === 'no') return unsafe(server, 'when its system likes', remedy);
  if (info.get('redis_mode') === 'cluster') {
    return unsafe(server, 'once a second, and a Redis Cluster cannot be asked when', remedy);
  }
  const version = info.get('redis_version') ?? '0';
  if (compareVersions(version, WAITAOF_VERSION_MIN) < 0) {
    const when = `once a second, and before version ${WAITAOF_VERSION_MIN} it cannot be asked when (it is ${version})`;
    return unsafe(server, when, remedy);
  }
  return { waits: true, reason: '', ...(appendfsync === 'everysec' ? { intervalMs: 1_000 } : {}) };
}

/**
 * For a server whose answers to WAITAOF come more often than it writes to the disk, as in Valkey 8.0 and some versions
 * of Redis 7 (redis/redis#13793). Its word is waited for all the same.
 */
export function withEarlyAnswers(client: RedisClient): RedisDurability {
  const when = 'once a second, and says that it has before it has (a fault of some versions)';
  return { ...unsafe(`Redis at ${client.shown}`, when, 'set appendfsync always'), waits: true };
}

/** For a server that says no to WAITAOF, by its rights or because it is not what it seems. */
export function withoutWaiting(client: RedisClient, error: RedisReplyError): RedisDurability {
  const when = `once a second, and says "${error.message}" when it is asked to wait for that`;
  const remedy = 'allow WAITAOF, or set appendfsync always';
  return unsafe(`Redis at ${client.shown}`, when, remedy);
}

function unsafe(server: string, when: string, remedy: string): RedisDurability {
  const what = 'so the last answers are lost when its machine fails';
  return { waits: false, reason: `${server} writes to the disk ${when}, ${what}: ${remedy}` };
}

async function appendFsync(client: RedisClient): Promise<string | undefined> {
  try {
    const answer = await client.call('CONFIG', ['GET', 'appendfsync']);
    return Array.isArray(answer) && typeof answer[1] === 'string' ? answer[1] : undefined;
  } catch (error) {
    // Rented servers often do not let anybody see their settings.
    if (error instanceof RedisReplyError) return undefined;
    throw error;
  }
}
