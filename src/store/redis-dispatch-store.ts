import type { Clock } from '../base/clock.ts';
import type { RedisClient } from '../redis/client.ts';
import { dispatchKeys, type DispatchKeys } from '../redis/keys.ts';
import { scriptLoader } from '../redis/scripts.ts';
import { ChangeBell } from './change-bell.ts';
import {
  boundsOf,
  checkKeys,
  checkLogQuery,
  checkMember,
  checkNames,
  wholeStep,
} from './dispatch-checks.ts';
import { DispatchFeed } from './dispatch-feed.ts';
import { dispatchScripts } from './dispatch-scripts.ts';
import type {
  DispatchStore,
  Document,
  DocumentKey,
  IndexEntry,
  LogEntry,
  OnChange,
  Partition,
  RangeQuery,
  Step,
  StepOutcome,
} from './dispatch-store.ts';
import { itemsOf } from './redis-answers.ts';
import { asStoreError } from './redis-faults.ts';
import { StoreError } from './relay-store.ts';
import { StepSettler } from './step-settler.ts';

/** The caller opens and closes the clients, which nobody else uses but `commands`. */
export interface RedisDispatchStoreOptions {
  /** For everything but waiting. */
  readonly commands: RedisClient;
  /** For blocking reads of the feed, up to `FEED_WAIT_MS`. */
  readonly feed: RedisClient;
  /** For hints, and for waiting until steps are on the disk, up to `DISK_WAIT_MS_MAX`. */
  readonly disk: RedisClient;
  readonly clock: Clock;
  readonly keyPrefix: string;
}

/**
 * Records of job dispatch that all nodes of a cluster share: one Lua script for each step. A step is answered when it is
 * on the disk, if the server can tell; `durability` says whether it can, from the first step on.
 */
export class RedisDispatchStore implements DispatchStore {
  readonly shown: string;
  readonly isDurable = true;
  readonly isShared = true;
  readonly #commands: RedisClient;
  readonly #keys: DispatchKeys;
  readonly #scripts: ReturnType<typeof dispatchScripts>;
  readonly #settler: StepSettler;
  readonly #feed: DispatchFeed;
  readonly #bell = new ChangeBell();
  #isClosed = false;

  constructor({ commands, feed, disk, clock, keyPrefix }: RedisDispatchStoreOptions) {
    this.#commands = commands;
    this.shown = `Redis at ${commands.shown}`;
    this.#keys = dispatchKeys(keyPrefix);
    this.#scripts = dispatchScripts(this.#keys, scriptLoader(commands));
    this.#settler = new StepSettler(disk, clock, this.#keys.feed);
    const { writer } = this.#settler;
    const key = this.#keys.feed;
    this.#feed = new DispatchFeed({ client: feed, clock, bell: this.#bell, key, writer });
  }

  get durability(): string {
    return this.#settler.durability;
  }

  /** Makes `durability` true before the first step. Rejects with `StoreError` when Redis is away. */
  async askDurability(): Promise<string> {
    return this.#attempt('~', async () => (await this.#settler.ask()).reason);
  }

  async get(partition: Partition, key: DocumentKey): Promise<Document | undefined> {
    const [document] = await this.getMany(partition, [key]);
    return document;
  }

  async getMany(
    partition: Partition,
    keys: readonly DocumentKey[],
  ): Promise<readonly (Document | undefined)[]> {
    checkKeys(keys);
    return this.#attempt(partition, async () => {
      if (keys.length === 0) return [];
      const names = keys.map(({ kind, id }) => this.#keys.document(partition, kind, id));
      const texts = itemsOf(await this.#commands.call('MGET', names));
      return keys.map((key, i) => this.#documentIn(key, texts[i]));
    });
  }

  async range(
    partition: Partition,
    index: string,
    query: RangeQuery,
  ): Promise<readonly IndexEntry[]> {
    checkNames(index);
    const bounds = boundsOf(query);
    const { isDescending = false, limit } = query;
    return this.#attempt(partition, () =>
      this.#scripts.readRange(partition, index, bounds, { isDescending, limit }),
    );
  }

  async count(partition: Partition, index: string): Promise<number> {
    checkNames(index);
    return this.#attempt(partition, async () =>
      Number(await this.#commands.call('ZCARD', [this.#keys.index(partition, index)])),
    );
  }

  async score(partition: Partition, index: string, member: string): Promise<number | undefined> {
    checkNames(index);
    checkMember(member);
    return this.#attempt(partition, async () => {
      const key = this.#keys.index(partition, index);
      const score = await this.#commands.call('ZSCORE', [key, member]);
      return score === null ? undefined : Number(score);
    });
  }

  async log(
    partition: Partition,
    log: string,
    query: { readonly after: number; readonly limit: number },
  ): Promise<{ readonly first: number; readonly entries: readonly LogEntry[] }> {
    checkNames(log);
    checkLogQuery(query);
    return this.#attempt(partition, () => this.#scripts.readLog(partition, log, query));
  }

  async step(partition: Partition, step: Step): Promise<StepOutcome> {
    const whole = wholeStep(step);
    return this.#attempt(partition, async () => {
      const outcome = await this.#scripts.takeStep(partition, whole);
      if (outcome.type === 'refused' || whole.topics.length === 0) return outcome;
      this.#bell.ring(partition, whole.topics);
      await this.#settler.settle(partition, whole.topics);
      return outcome;
    });
  }

  watch(onChange: OnChange, onGap?: () => void): () => void {
    let isOver = false;
    const end = this.#bell.watch(onChange, onGap);
    if (this.#feed.isFollowing) {
      queueMicrotask(() => {
        if (!isOver) onGap?.();
      });
    }
    this.#feed.begin();
    return () => {
      isOver = true;
      end();
    };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#bell.close();
    this.#feed.close();
    return Promise.resolve();
  }

  #documentIn(key: DocumentKey, text: unknown): Document | undefined {
    if (typeof text !== 'string') return undefined;
    const space = text.indexOf(' ');
    const version = Number(text.slice(0, Math.max(0, space)));
    if (version > 0) return { key, version, text: text.slice(space + 1) };
    throw new StoreError(
      `${this.shown} has foreign data where the ${key.kind} "${key.id}" should be`,
    );
  }

  async #attempt<Result>(partition: Partition, take: () => Promise<Result>): Promise<Result> {
    checkNames(partition);
    if (this.#isClosed) throw new StoreError(`Cannot use ${this.shown}: it is closed`);
    try {
      return await take();
    } catch (error) {
      throw asStoreError(error, { shown: this.shown, key: this.#keys.index(partition, '') });
    }
  }
}
