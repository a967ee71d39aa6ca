import { systemClock, type Clock } from '../../src/base/clock.ts';
import { openRedis, type RedisClient } from '../../src/redis/client.ts';
import { parseRedisUrl } from '../../src/redis/redis-url.ts';
import { FEED_WAIT_MS } from '../../src/store/dispatch-feed.ts';
import { RedisDispatchStore } from '../../src/store/redis-dispatch-store.ts';
import { DISK_WAIT_MS_MAX } from '../../src/store/step-settler.ts';

const TIMEOUT_MS = 5_000;

/** One node's records of job dispatch in Redis, with connections of its own. */
export interface DispatchNode extends AsyncDisposable {
  readonly store: RedisDispatchStore;
}

export interface DispatchNodeOptions {
  readonly url: string;
  readonly keyPrefix?: string;
  /** The store's; its connections have that of the system. */
  readonly clock?: Clock;
  /** Stands between the store and its connection for waiting. */
  readonly disk?: (client: RedisClient) => RedisClient;
}

export async function openDispatchNode(options: DispatchNodeOptions): Promise<DispatchNode> {
  const { url, keyPrefix = 'tests', clock = systemClock, disk = client => client } = options;
  const commands = open(url, 0);
  const feed = open(url, FEED_WAIT_MS);
  const waiting = open(url, DISK_WAIT_MS_MAX);
  const clients = [commands, feed, waiting];
  for (const client of clients) {
    if (!(await client.untilUp(TIMEOUT_MS))) throw new Error(`No Redis: ${client.lastFault}`);
  }
  const store = new RedisDispatchStore({
    commands,
    feed,
    disk: disk(waiting),
    clock,
    keyPrefix,
  });
  return {
    store,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      for (const client of clients) client.close();
    },
  };
}

/** Two nodes on the same records. */
export async function openDispatchNodes(options: DispatchNodeOptions) {
  const [one, two] = await Promise.all([openDispatchNode(options), openDispatchNode(options)]);
  return {
    store: one.store,
    other: two.store,
    [Symbol.asyncDispose]: async () => {
      await one[Symbol.asyncDispose]();
      await two[Symbol.asyncDispose]();
    },
  };
}

function open(url: string, blockingMsMax: number): RedisClient {
  const parsed = parseRedisUrl(url);
  if ('fault' in parsed) throw new Error(parsed.fault);
  return openRedis({
    target: parsed.target,
    clock: systemClock,
    connectionName: 'tests',
    commandTimeoutMs: TIMEOUT_MS,
    blockingMsMax,
  });
}
