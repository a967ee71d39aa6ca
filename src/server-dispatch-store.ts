import type { Clock } from './base/clock.ts';
import { StartError } from './config/errors.ts';
import type { Config } from './config/options.ts';
import { openClusterClient } from './server-cluster.ts';
import { FEED_WAIT_MS } from './store/dispatch-feed.ts';
import type { DispatchStore } from './store/dispatch-store.ts';
import { openMemoryDispatchStore } from './store/memory-dispatch-store.ts';
import { StoreError } from './store/relay-store.ts';
import { DISK_WAIT_MS_MAX } from './store/step-settler.ts';

export interface OpenDispatchStore {
  readonly store: DispatchStore;
  /** Has `store.durability` say how it is now. Rejects with `StoreError`. */
  askDurability(): Promise<void>;
  /** Ends what it stands on, too. */
  close(): Promise<void>;
}

/** How long a start waits for Redis before it goes on without. */
const REDIS_START_MS = 3_000;

/** Where the configuration has records of job dispatch: Redis, a folder, or memory. Rejects with `StartError`. */
export async function openDispatchStore(config: Config, clock: Clock): Promise<OpenDispatchStore> {
  if (config.redis !== undefined) return openInRedis(config, clock);
  try {
    return local(
      config.data === undefined
        ? openMemoryDispatchStore()
        : await openInFolder(config.data, clock),
    );
  } catch (error) {
    if (error instanceof StoreError) throw new StartError(error.message, { cause: error });
    throw error;
  }
}

async function openInFolder(folder: string, clock: Clock): Promise<DispatchStore> {
  // Loads a native library, which those without a folder do without.
  const { openSqliteDispatchStore } = await import('./store/sqlite-dispatch-store.ts');
  return openSqliteDispatchStore(folder, clock);
}

function local(store: DispatchStore): OpenDispatchStore {
  return { store, askDurability: () => Promise.resolve(), close: () => store.close() };
}

/** Three connections: one for what is asked, and two that are blocked by waiting, for changes and for the disk. */
async function openInRedis(config: Config, clock: Clock): Promise<OpenDispatchStore> {
  const { RedisDispatchStore } = await import('./store/redis-dispatch-store.ts');
  const open = (use: string, blockingMsMax: number): ReturnType<typeof openClusterClient> =>
    openClusterClient(config, clock, { use, blockingMsMax });
  const commands = open('dispatch', 0);
  const feed = open('dispatch-feed', FEED_WAIT_MS);
  const disk = open('dispatch-disk', DISK_WAIT_MS_MAX);
  const store = new RedisDispatchStore({
    commands,
    feed,
    disk,
    clock,
    keyPrefix: config.redisPrefix,
  });
  await Promise.all([commands, disk].map(client => client.untilUp(REDIS_START_MS)));
  return {
    store,
    async askDurability() {
      await store.askDurability();
    },
    async close() {
      await store.close();
      for (const client of [commands, feed, disk]) client.close();
    },
  };
}
