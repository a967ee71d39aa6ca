import { RedisAwayError, RedisReplyError } from '../redis/errors.ts';
import type { RedisArgument, RedisClient } from '../redis/client.ts';
import { directoryKeys, type DirectoryKeys } from '../redis/keys.ts';
import { scriptLoader } from '../redis/scripts.ts';
import { checkServer } from '../redis/server-check.ts';
import {
  CoordinatorError,
  type Coordinator,
  type CoordinatorCheck,
  type CoordinatorState,
  type FeedEntry,
  type FeedPosition,
  type Holder,
  type PlacedKey,
  type PlacedRow,
  type RenewResult,
  type RowsPage,
  type SeenLease,
  type StoredRecord,
  type TakeResult,
} from './coordinator.ts';
import { directoryScripts } from './directory-scripts.ts';
import { FEED_READ_MAX, NODES_MAX, ROWS_PER_PAGE, ROWS_PER_WRITE_MAX } from './limits.ts';
import {
  formatFeedKeys,
  formatFeedRows,
  formatPosition,
  parseFeed,
  parseRenewal,
  parseRows,
  parseRowsPage,
  parseState,
  texts,
} from './redis-formats.ts';

/** Types that our keys must have; anything else is somebody else's. */
const KEY_TYPES = {
  meta: 'hash',
  leases: 'zset',
  nodes: 'hash',
  digests: 'hash',
  feed: 'stream',
  garbage: 'set',
} as const;
/** What XADD says when the id is not above all others. */
const FOREIGN_FEED_ID = 'equal or smaller than the target stream top item';
/** Version of the layout under our keys (`redis/keys.ts`). */
const SCHEMA = '1';
/** What a blocking read may take longer than it waits. */
const READ_GRACE_MS = 2_000;

export interface RedisCoordinatorOptions {
  /** For everything but the feed. */
  readonly commands: RedisClient;
  /** For blocking reads of the feed, which hold their connection. */
  readonly feed: RedisClient;
  readonly keyPrefix: string;
  readonly feedChangesMax: number;
}

/** The directory in Redis: one Lua script for each step, one stream as feed. */
export class RedisCoordinator implements Coordinator {
  readonly #redis: RedisClient;
  readonly #feed: RedisClient;
  readonly #keys: DirectoryKeys;
  readonly #prefix: string;
  readonly #feedMax: number;
  readonly #scripts: ReturnType<typeof directoryScripts>;
  commandFailures = 0;

  constructor(options: RedisCoordinatorOptions) {
    this.#redis = options.commands;
    this.#feed = options.feed;
    this.#prefix = options.keyPrefix;
    this.#keys = directoryKeys(options.keyPrefix);
    this.#feedMax = options.feedChangesMax;
    this.#scripts = directoryScripts(scriptLoader(options.commands));
  }

  get isUp(): boolean {
    return this.#redis.isUp;
  }

  get commands(): number {
    return this.#redis.commandsSent + this.#feed.commandsSent;
  }

  onUpChange(observer: (isUp: boolean) => void): void {
    this.#redis.onUpChange(observer);
  }

  async untilUp(timeoutMs: number): Promise<boolean> {
    return this.#redis.untilUp(timeoutMs);
  }

  async check(): Promise<CoordinatorCheck> {
    return this.#step(async () => {
      const server = await checkServer(this.#redis);
      const { refusal = await this.#findForeign(), warnings } = server;
      return refusal === undefined ? { warnings } : { refusal, warnings };
    });
  }

  async take(
    holder: Holder,
    lease: {
      readonly record: StoredRecord;
      readonly leaseMs: number;
      readonly previousEpoch: string;
    },
  ): Promise<TakeResult> {
    const { meta, leases, nodes, digests, feed, garbage } = this.#keys;
    const { record, leaseMs, previousEpoch } = lease;
    return this.#step(async () => {
      const answer = await this.#scripts.takeLease(
        [meta, leases, nodes, digests, feed, garbage],
        [...owner(holder), record.part, record.text, leaseMs, previousEpoch, this.#feedMax],
      );
      const [verdict, expiresAt = '0', leftMs = '0'] = texts(answer);
      if (verdict === 'taken') return { type: 'taken' };
      return { type: 'held', lease: { node: holder.node, expiresAt }, leftMs: Number(leftMs) };
    });
  }

  async renew(holder: Holder, leaseMs: number): Promise<RenewResult> {
    const { meta, leases, nodes, digests, garbage } = this.#keys;
    return this.#step(async () =>
      parseRenewal(
        await this.#scripts.renewLease(
          [meta, leases, nodes, digests, garbage],
          [...owner(holder), leaseMs, NODES_MAX],
        ),
      ),
    );
  }

  async describe(holder: Holder, record: StoredRecord): Promise<'written' | 'lease-lost'> {
    const { meta, nodes, digests, feed } = this.#keys;
    return this.#step(async () => {
      const answer = await this.#scripts.describeNode(
        [meta, nodes, digests, feed],
        [...owner(holder), record.part, record.text, this.#feedMax],
      );
      return answer === 'written' ? 'written' : 'lease-lost';
    });
  }

  async leave(holder: Holder): Promise<void> {
    const { meta, leases, nodes, digests, feed, garbage } = this.#keys;
    await this.#step(() =>
      this.#scripts.leave(
        [meta, leases, nodes, digests, feed, garbage],
        [...owner(holder), this.#feedMax],
      ),
    );
  }

  async challenge(node: string): Promise<SeenLease | undefined> {
    const { meta, leases, nodes, feed } = this.#keys;
    return this.#step(async () => {
      const answer = await this.#scripts.challengeNode(
        [meta, leases, nodes, feed],
        [node, this.#feedMax],
      );
      const [verdict, expiresAt = '0'] = texts(answer);
      return verdict === 'challenged' ? { node, expiresAt } : undefined;
    });
  }

  async removeNodes(leases: readonly SeenLease[], why: 'expired' | 'expelled'): Promise<number> {
    const keys = this.#keys;
    const pairs = leases.flatMap(({ node, expiresAt }) => [node, expiresAt]);
    return this.#step(async () =>
      Number(
        await this.#scripts.removeNodes(
          [keys.meta, keys.leases, keys.nodes, keys.digests, keys.feed, keys.garbage],
          [why, this.#feedMax, ...pairs],
        ),
      ),
    );
  }

  async claim(
    holder: Holder,
    row: PlacedRow,
    listenersMax: number,
  ): Promise<'claimed' | 'quota-reached' | 'lease-lost'> {
    const { meta, leases, nodes, digests, feed } = this.#keys;
    const keys = [meta, leases, nodes, digests, feed, this.#rows(holder), this.#listeners(row)];
    return this.#step(async () => {
      const answer = await this.#scripts.claimListener(keys, [
        ...owner(holder),
        row.key,
        row.part,
        row.text,
        formatFeedRows([row]),
        listenersMax,
        this.#feedMax,
      ]);
      return answer === 'claimed' || answer === 'quota-reached' ? answer : 'lease-lost';
    });
  }

  async write(holder: Holder, rows: readonly PlacedRow[]): Promise<'written' | 'lease-lost'> {
    return this.#step(async () => {
      const answer = await this.#scripts.writeListeners(this.#rowKeys(holder, rows), [
        ...owner(holder),
        formatFeedRows(rows),
        this.#feedMax,
        ...rows.flatMap(({ key, part, text }) => [key, part, text]),
      ]);
      return answer === 'written' ? 'written' : 'lease-lost';
    });
  }

  async release(holder: Holder, rows: readonly PlacedKey[]): Promise<'released' | 'lease-lost'> {
    const keys = rows.map(row => row.key);
    return this.#step(async () => {
      const answer = await this.#scripts.releaseListeners(this.#rowKeys(holder, rows), [
        ...owner(holder),
        formatFeedKeys(keys),
        this.#feedMax,
        ...keys,
      ]);
      return answer === 'released' ? 'released' : 'lease-lost';
    });
  }

  async state(): Promise<CoordinatorState> {
    const { meta, leases, nodes, digests } = this.#keys;
    return this.#step(async () => {
      const state = parseState(await this.#scripts.readState([meta, leases, nodes, digests], []));
      // We hold a lease, so there was a directory; that it is gone shows at the next renewal.
      if (state === undefined) throw new RedisAwayError('The directory in Redis was removed');
      return state;
    });
  }

  async rows(holder: Holder, from: string | undefined): Promise<RowsPage> {
    const args = [this.#rows(holder), from ?? '0', 'COUNT', ROWS_PER_PAGE];
    return this.#step(async () => parseRowsPage(await this.#redis.call('HSCAN', args)));
  }

  async collect(garbage: Holder): Promise<boolean> {
    return this.#step(async () => {
      // Not HSCAN from the start: where most is deleted already, its first page is empty for ever.
      const args = [this.#rows(garbage), ROWS_PER_WRITE_MAX, 'WITHVALUES'];
      const rows = parseRows(await this.#redis.call('HRANDFIELD', args));
      const left = await this.#scripts.collectGarbage(
        [this.#keys.garbage, this.#rows(garbage), ...rows.map(row => this.#listeners(row))],
        [owner(garbage).join(' '), ...rows.map(row => row.key)],
      );
      return Number(left) === 0;
    });
  }

  async read(after: FeedPosition, waitMs: number): Promise<readonly FeedEntry[]> {
    const args = ['COUNT', FEED_READ_MAX, 'BLOCK', waitMs, 'STREAMS', this.#keys.feed];
    return this.#step(async () =>
      parseFeed(
        await this.#feed.call('XREAD', [...args, formatPosition(after)], waitMs + READ_GRACE_MS),
      ),
    );
  }

  endRead(): void {
    this.#feed.reconnect();
  }

  close(): void {
    this.#redis.close();
    this.#feed.close();
  }

  #rows({ node, epoch }: Holder): string {
    return this.#keys.rows(node, epoch);
  }

  #listeners({ namespace, hybridConnection }: PlacedKey): string {
    return this.#keys.listeners(namespace, hybridConnection);
  }

  #rowKeys(holder: Holder, rows: readonly PlacedKey[]): string[] {
    const { meta, nodes, digests, feed } = this.#keys;
    const places = rows.map(row => this.#listeners(row));
    return [meta, nodes, digests, feed, this.#rows(holder), ...places];
  }

  /** A sentence that says what lies under our keys and is not ours, or undefined. */
  async #findForeign(): Promise<string | undefined> {
    const remedy = `give this cluster another key prefix than "${this.#prefix}", or remove the key`;
    for (const [name, wanted] of Object.entries(KEY_TYPES)) {
      const key = Object.entries(this.#keys).find(([field]) => field === name)?.[1];
      const type = await this.#redis.call('TYPE', [String(key)]);
      if (type !== 'none' && type !== wanted) {
        return `Redis at ${this.#redis.shown} has a ${String(type)} under "${String(key)}", where the directory keeps a ${wanted}: ${remedy}`;
      }
    }
    const [schema] = texts(await this.#redis.call('HMGET', [this.#keys.meta, 'schema']));
    if (schema === undefined || schema === SCHEMA || schema === '') return undefined;
    return `Redis at ${this.#redis.shown} has a directory of schema "${schema}" under "${this.#keys.meta}", and this node reads schema "${SCHEMA}": ${remedy}`;
  }

  async #step<Result>(take: () => Promise<Result>): Promise<Result> {
    try {
      return await take();
    } catch (error) {
      this.commandFailures += 1;
      if (error instanceof RedisReplyError) {
        if (error.message.includes(FOREIGN_FEED_ID)) await this.#dropFeed(error);
        throw new CoordinatorError('unusable', this.#explain(error), { cause: error });
      }
      if (error instanceof RedisAwayError) {
        throw new CoordinatorError('away', error.message, { cause: error });
      }
      throw error;
    }
  }

  /**
   * Somebody added to our feed, with an id above all to come. Without it the next changes show a gap,
   * and everybody reads the whole; what the failed step did besides shows in the digests.
   */
  async #dropFeed(cause: RedisReplyError): Promise<never> {
    await this.#redis.call('DEL', [this.#keys.feed]);
    throw new CoordinatorError('away', 'The feed had a foreign entry and was begun anew', {
      cause,
    });
  }

  #explain(error: RedisReplyError): string {
    const at = `Redis at ${this.#redis.shown}`;
    switch (error.code) {
      case 'WRONGTYPE':
        return `${at} has foreign data under keys that begin with "{${this.#prefix}}:": give this cluster another key prefix, or remove them`;
      case 'OOM':
        return `${at} is out of memory: raise maxmemory`;
      case 'NOPERM':
      case 'NOAUTH':
      case 'WRONGPASS':
        return `${at} refuses our user: it needs the commands EVAL, EVALSHA, INFO, TYPE, HMGET, HSCAN, HRANDFIELD and XREAD and those within the scripts, on keys {${this.#prefix}}:* (${error.message})`;
      default:
        return `${at} refused a step: ${error.message}`;
    }
  }
}

function owner({ node, epoch }: Holder): readonly RedisArgument[] {
  return [node, epoch];
}
