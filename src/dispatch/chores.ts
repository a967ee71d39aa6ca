import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { Work } from './work.ts';

/** Something that is to be done now and then, and that any number of processes may do at once. */
export interface Chore {
  /** For the log when it fails: `schedules could not be started`. */
  readonly failure: string;
  readonly everyMs: number;
  /** A topic of the store's `watch` at which it is done at once. */
  readonly topic?: string;
  /** How many of it may be under way at once; default 1. */
  readonly atOnceMax?: number;
  run(): Promise<unknown>;
  /** Gives up what it waits for. */
  stop?(): void;
}

/** The chores of one environment. Each goes its own pace: one that hangs or fails holds up no other. */
export class Chores {
  readonly #chores: readonly Chore[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #work = new Work();
  readonly #lastAtMs = new Map<Chore, number>();
  /** How many are under way. */
  readonly #running = new Map<Chore, number>();
  /** Asked for while as many were under way as may be. */
  readonly #wanted = new Set<Chore>();

  constructor(chores: readonly Chore[], clock: Clock, log: Logger) {
    this.#chores = chores;
    this.#clock = clock;
    this.#log = log;
  }

  /** Begins those whose time has come. */
  sweep(): void {
    const nowMs = this.#clock.nowMs();
    for (const chore of this.#chores) {
      const lastAtMs = this.#lastAtMs.get(chore);
      if (lastAtMs === undefined || nowMs - lastAtMs >= chore.everyMs) this.#begin(chore);
    }
  }

  onTopics(topics: readonly string[]): void {
    for (const chore of this.#chores) {
      if (chore.topic !== undefined && topics.includes(chore.topic)) this.#begin(chore);
    }
  }

  /** Nothing new begins; resolves when all that is under way has ended. */
  stop(): Promise<void> {
    for (const chore of this.#chores) chore.stop?.();
    return this.#work.stop();
  }

  #begin(chore: Chore): void {
    if (this.#work.isStopped) return;
    const running = this.#running.get(chore) ?? 0;
    if (running >= (chore.atOnceMax ?? 1)) {
      this.#wanted.add(chore);
      return;
    }
    this.#running.set(chore, running + 1);
    this.#lastAtMs.set(chore, this.#clock.nowMs());
    void this.#work.track(this.#do(chore));
  }

  async #do(chore: Chore): Promise<void> {
    try {
      await chore.run();
    } catch (error) {
      // It is tried again when its time comes.
      this.#log.warn({ err: error }, chore.failure);
    }
    this.#running.set(chore, (this.#running.get(chore) ?? 1) - 1);
    if (this.#wanted.delete(chore)) this.#begin(chore);
  }
}
