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
  run(): Promise<unknown>;
}

/** The chores of one environment. Each goes its own pace: one that hangs or fails holds up no other. */
export class Chores {
  readonly #chores: readonly Chore[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #work = new Work();
  readonly #lastAtMs = new Map<Chore, number>();
  /** Under way; true: it is wanted again. */
  readonly #running = new Map<Chore, boolean>();

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
    return this.#work.stop();
  }

  #begin(chore: Chore): void {
    if (this.#work.isStopped) return;
    if (this.#running.has(chore)) {
      this.#running.set(chore, true);
      return;
    }
    this.#running.set(chore, false);
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
    const isWantedAgain = this.#running.get(chore) === true;
    this.#running.delete(chore);
    if (isWantedAgain) this.#begin(chore);
  }
}
