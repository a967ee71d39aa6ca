import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { RedisClient } from '../redis/client.ts';
import { RedisAwayError, RedisReplyError } from '../redis/errors.ts';
import { formatChanges, type Changes } from './dispatch-feed.ts';
import type { Partition } from './dispatch-store.ts';
import {
  askDurability,
  withEarlyAnswers,
  withoutWaiting,
  type RedisDurability,
} from './redis-durability.ts';

/** How long a step waits for the disk; one that is busy for longer makes the step fail, though it was taken. */
export const DISK_WAIT_MS_MAX = 4_000;
const WAIT_GRACE_MS = 1_000;
/** Hints that the feed keeps, about. Who is further behind is told less; it is hints only. */
const FEED_ENTRIES_MAX = 1_000;

/**
 * What comes after each step in Redis: the other nodes are told, and the disk is waited for.
 *
 * Both are done for many steps at once, on a connection of their own, because WAITAOF holds up whatever comes behind
 * it. It waits for what its own connection wrote, and that is the hint for the feed: written after the steps, so that
 * they are on the disk when the hint is.
 */
export class StepSettler {
  /** By which a node knows its own hints. */
  readonly writer = randomBytes(8).toString('hex');
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #feed: string;
  #durability: RedisDurability | undefined;
  #asking: Promise<RedisDurability> | undefined;
  #untold = new Map<Partition, Set<string>>();
  #next: Promise<void> | undefined;
  /** When the last wait began that was answered. */
  #lastWaitAtMs = -Infinity;
  #underWay: Promise<void> = Promise.resolve();

  constructor(client: RedisClient, clock: Clock, feed: string) {
    this.#client = client;
    this.#clock = clock;
    this.#feed = feed;
    // Another server may have taken over.
    client.onUpChange(() => {
      this.#durability = undefined;
      this.#lastWaitAtMs = -Infinity;
    });
  }

  get durability(): string {
    return this.#durability?.reason ?? `Redis at ${this.#client.shown} has not been asked yet`;
  }

  /** Asks the server again what it does with its writes. Rejects when Redis is away. */
  async ask(): Promise<RedisDurability> {
    if (this.#durability !== undefined) return this.#durability;
    this.#asking ??= askDurability(this.#client).finally(() => {
      this.#asking = undefined;
    });
    this.#durability = await this.#asking;
    return this.#durability;
  }

  /**
   * Resolves when a step that was taken is as durable as this server can make it. Rejects as `RedisClient.call` does when
   * that cannot be known.
   */
  async settle(partition: Partition, topics: readonly string[]): Promise<void> {
    const changed = this.#untold.get(partition) ?? new Set();
    for (const topic of topics) changed.add(topic);
    this.#untold.set(partition, changed);
    const settled = this.#nextBatch();
    if ((await this.ask()).waits) await settled;
  }

  /** The batch that begins when the one under way is done, and takes along all that came until then. */
  #nextBatch(): Promise<void> {
    if (this.#next !== undefined) return this.#next;
    const next = this.#underWay.then(() => {
      const changes = this.#untold;
      this.#untold = new Map();
      this.#next = undefined;
      return this.#settleBatch(changes);
    });
    this.#next = next;
    // Where nobody waits for the disk, a hint that is lost is lost: whoever looks at all again finds what it told.
    this.#underWay = next.catch(() => undefined);
    return next;
  }

  async #settleBatch(changes: Changes): Promise<void> {
    const { waits } = await this.ask();
    const limit = ['MAXLEN', '~', FEED_ENTRIES_MAX];
    const hint = this.#client.call('XADD', [
      this.#feed,
      ...limit,
      '*',
      ...formatChanges(this.writer, changes),
    ]);
    await Promise.all([hint, ...(waits ? [this.#waitForDisk()] : [])]);
  }

  async #waitForDisk(): Promise<void> {
    const startedAtMs = this.#clock.nowMs();
    try {
      const timeoutMs = DISK_WAIT_MS_MAX + WAIT_GRACE_MS;
      const answer = await this.#client.call('WAITAOF', [1, 0, DISK_WAIT_MS_MAX], timeoutMs);
      if (Array.isArray(answer) && Number(answer[0]) >= 1) {
        this.#judge(startedAtMs);
        return;
      }
      throw new RedisAwayError(
        `Redis at ${this.#client.shown} did not write to its disk within ${DISK_WAIT_MS_MAX} ms`,
      );
    } catch (error) {
      if (!(error instanceof RedisReplyError)) throw error;
      this.#durability = withoutWaiting(this.#client, error);
    }
  }

  /** One wait began with something unwritten, and so did this one: the disk was written to twice since the former began. */
  #judge(startedAtMs: number): void {
    const { intervalMs = 0 } = this.#durability ?? {};
    const betweenMs = this.#clock.nowMs() - this.#lastWaitAtMs;
    this.#lastWaitAtMs = startedAtMs;
    // A little less, because clocks and timers are not exact.
    if (betweenMs < intervalMs * 0.8) this.#durability = withEarlyAnswers(this.#client);
  }
}
