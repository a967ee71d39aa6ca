import type { Clock } from '../base/clock.ts';
import type { DispatchStore, Partition } from '../store/dispatch-store.ts';
import { FrameError } from './api-error.ts';

/** Requests that are held at once; one costs a timer and a few hundred bytes. */
export const WAITERS_MAX = 4_000;

interface Waiter {
  /** Something may have changed since it was last asked. */
  isRung: boolean;
  /** It is not to wait any more. */
  isOver: boolean;
  wake: () => void;
}

export interface HeldFor {
  readonly partition: Partition;
  /** Logs, indexes and kinds of documents, a change of any of which is worth a look. */
  readonly topics: readonly string[];
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/** Requests that wait for a change of the store: one watch serves them all. */
export class ChangeWaits {
  readonly #store: DispatchStore;
  readonly #clock: Clock;
  readonly #waiters = new Map<string, Set<Waiter>>();
  #count = 0;
  #stopWatching: (() => void) | undefined;
  #isClosed = false;

  constructor(store: DispatchStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** How many wait now. */
  get count(): number {
    return this.#count;
  }

  /**
   * Reads until it `isEnough`, the time is over, the client has gone or this is closed; answers what was read
   * last. Throws `Overloaded` when too many wait.
   */
  async hold<Value>(
    read: () => Promise<Value>,
    isEnough: (value: Value) => boolean,
    about: HeldFor,
  ): Promise<Value> {
    const first = await read();
    if (isEnough(first) || about.waitMs <= 0 || about.signal.aborted || this.#isClosed) {
      return first;
    }
    if (this.#count >= WAITERS_MAX) throw new FrameError('Overloaded', 'too many requests wait');
    this.#stopWatching ??= this.#store.watch(
      (partition, topics) => this.#changed(partition, topics),
      () => this.#ringAll(),
    );
    // What changed between the first look and now rang nobody: look again before waiting.
    const waiter: Waiter = { isRung: true, isOver: false, wake: () => undefined };
    const keys = about.topics.map(topic => keyOf(about.partition, topic));
    this.#add(keys, waiter);
    const end = (): void => {
      waiter.isOver = true;
      waiter.wake();
    };
    const cancelTimer = this.#clock.after(about.waitMs, end);
    about.signal.addEventListener('abort', end, { once: true });
    try {
      return await this.#readOn(waiter, first, read, isEnough);
    } finally {
      cancelTimer();
      about.signal.removeEventListener('abort', end);
      this.#drop(keys, waiter);
    }
  }

  /** All who wait are answered with what they have. Safe to call twice. */
  close(): void {
    this.#isClosed = true;
    this.#stopWatching?.();
    this.#ringAll();
  }

  async #readOn<Value>(
    waiter: Waiter,
    first: Value,
    read: () => Promise<Value>,
    isEnough: (value: Value) => boolean,
  ): Promise<Value> {
    let value = first;
    for (;;) {
      if (!waiter.isRung && !waiter.isOver) {
        await new Promise<void>(resolve => void (waiter.wake = resolve));
      }
      if (waiter.isOver || this.#isClosed) return value;
      waiter.isRung = false;
      value = await read();
      if (isEnough(value)) return value;
    }
  }

  #changed(partition: Partition, topics: readonly string[]): void {
    for (const topic of topics) {
      for (const waiter of this.#waiters.get(keyOf(partition, topic)) ?? []) ring(waiter);
    }
  }

  #ringAll(): void {
    for (const waiters of this.#waiters.values()) for (const waiter of waiters) ring(waiter);
  }

  #add(keys: readonly string[], waiter: Waiter): void {
    this.#count += 1;
    for (const key of keys) {
      const waiters = this.#waiters.get(key) ?? new Set();
      this.#waiters.set(key, waiters.add(waiter));
    }
  }

  #drop(keys: readonly string[], waiter: Waiter): void {
    this.#count -= 1;
    for (const key of keys) {
      const waiters = this.#waiters.get(key);
      waiters?.delete(waiter);
      if (waiters?.size === 0) this.#waiters.delete(key);
    }
  }
}

function ring(waiter: Waiter): void {
  waiter.isRung = true;
  waiter.wake();
}

function keyOf(partition: Partition, topic: string): string {
  // Neither has a space in it.
  return `${partition} ${topic}`;
}
