import type { RedisClient } from './client.ts';

/** What is wrong with a Redis server: what makes it unusable, and what only makes it risky. */
export interface ServerCheck {
  readonly version: string;
  /** What is wrong and what to do; undefined when it can be used. */
  readonly refusal?: string;
  readonly warnings: readonly string[];
}

/** Oldest Redis that is taken. Scripts rely on effect replication and streams; tested on 7.0. */
export const REDIS_VERSION_MIN = '6.2';

/** Asks a server what it is (one INFO). On a Redis Cluster one node speaks for all. */
export async function checkServer(client: RedisClient): Promise<ServerCheck> {
  const fields = parseInfo(String(await client.call('INFO', [])));
  const version = fields.get('redis_version') ?? '0';
  const at = `Redis at ${client.shown}`;
  if (compareVersions(version, REDIS_VERSION_MIN) < 0) {
    const refusal = `${at} is version ${version}, and ${REDIS_VERSION_MIN} or later is needed: upgrade it`;
    return { version, refusal, warnings: [] };
  }
  if (fields.get('role') === 'slave') {
    const refusal = `${at} is a replica and takes no writes: name its master, or its Sentinels`;
    return { version, refusal, warnings: [] };
  }
  const warnings: string[] = [];
  const policy = fields.get('maxmemory_policy') ?? 'noeviction';
  if (policy !== 'noeviction') {
    warnings.push(
      `${at} has maxmemory-policy "${policy}" and may drop the cluster's records when memory is short: ` +
        'set maxmemory-policy noeviction',
    );
  }
  return { version, warnings };
}

/** Fields of an INFO answer by name. */
export function parseInfo(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}

/** Below, at or above zero, as the first is older, the same or newer; missing parts count as 0. */
export function compareVersions(one: string, other: string): number {
  const [ones, others] = [one, other].map(text =>
    text.split('.').map(part => parseInt(part, 10) || 0),
  );
  for (let i = 0; i < 3; i += 1) {
    const difference = (ones?.[i] ?? 0) - (others?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
