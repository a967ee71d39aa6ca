import type { CancelTimer, Clock } from '../base/clock.ts';
import type { RedisClient } from '../redis/client.ts';
import { RedisAwayError, RedisReplyError } from '../redis/errors.ts';
import type { ChangeBell } from './change-bell.ts';
import type { Partition } from './dispatch-store.ts';
import { itemsOf, pairsOf, textsOf } from './redis-answers.ts';

/** Topics of each partition. */
export type Changes = ReadonlyMap<Partition, ReadonlySet<string>>;

/** How long a read of the feed waits for a hint. */
export const FEED_WAIT_MS = 5_000;
const READ_GRACE_MS = 2_000;
const RETRY_MS = 500;
const ENTRIES_AT_A_TIME = 100;
/** Longer hints say only that there was much. */
const HINT_CHARS_MAX = 16_384;

/**
 * Fields of an entry of the feed: its writer, then partitions, each with its topics; names have no spaces. No partition
 * means that there was too much to tell.
 */
export function formatChanges(writer: string, changes: Changes): readonly string[] {
  const told = [...changes].flatMap(([partition, topics]) => [partition, [...topics].join(' ')]);
  const chars = told.reduce((sum, text) => sum + text.length, 0);
  return ['by', writer, ...(chars > HINT_CHARS_MAX ? [] : told)];
}

/** Follows the hints of other nodes, from when it is begun until it is closed. */
export class DispatchFeed {
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #bell: ChangeBell;
  readonly #key: string;
  readonly #writer: string;
  #position: string | undefined;
  #isBegun = false;
  #isClosed = false;
  #endPause: () => void = () => undefined;

  constructor(options: {
    readonly client: RedisClient;
    readonly clock: Clock;
    readonly bell: ChangeBell;
    readonly key: string;
    /** Whose hints are left out. */
    readonly writer: string;
  }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#bell = options.bell;
    this.#key = options.key;
    this.#writer = options.writer;
  }

  /** Whether hints arrive at the moment. */
  get isFollowing(): boolean {
    return this.#position !== undefined;
  }

  begin(): void {
    if (this.#isBegun || this.#isClosed) return;
    this.#isBegun = true;
    void this.#follow();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endPause();
    // Nothing else ends a blocking read.
    if (this.#isBegun) this.#client.reconnect();
  }

  async #follow(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#read();
      } catch (error) {
        if (!(error instanceof RedisAwayError || error instanceof RedisReplyError)) throw error;
        this.#position = undefined;
        await this.#pause();
      }
    }
  }

  async #read(): Promise<void> {
    if (this.#position === undefined) {
      const last = await this.#client.call('XREVRANGE', [this.#key, '+', '-', 'COUNT', 1]);
      this.#position = textsOf(itemsOf(last)[0])[0] ?? '0-0';
      if (!this.#isClosed) this.#bell.ringGap();
    }
    const args = ['COUNT', ENTRIES_AT_A_TIME, 'BLOCK', FEED_WAIT_MS, 'STREAMS', this.#key];
    const timeoutMs = FEED_WAIT_MS + READ_GRACE_MS;
    const answer = await this.#client.call('XREAD', [...args, this.#position], timeoutMs);
    const [, entries] = itemsOf(itemsOf(answer)[0]);
    for (const entry of itemsOf(entries)) {
      const [id, fields] = itemsOf(entry);
      this.#position = String(id);
      if (!this.#isClosed) this.#tell(textsOf(fields));
    }
  }

  #tell([, writer = '', ...changes]: readonly string[]): void {
    if (writer === this.#writer) return;
    if (changes.length === 0) this.#bell.ringGap();
    for (const [partition, topics] of pairsOf(changes))
      this.#bell.ring(partition, topics.split(' '));
  }

  async #pause(): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>(resolve => {
      const cancel: CancelTimer = this.#clock.after(RETRY_MS, resolve);
      this.#endPause = () => {
        cancel();
        resolve();
      };
    });
  }
}
