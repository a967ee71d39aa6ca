import type { CancelTimer, Clock } from '../../src/base/clock.ts';

interface Task {
  readonly atMs: number;
  readonly run: () => void;
}

/** Time that only passes when a test says so. */
export class FakeClock implements Clock {
  #nowMs = 0;
  readonly #wallStartMs: number;
  readonly #tasks = new Set<Task>();

  /** @param wallStartMs the time of day it begins at; the real one unless given, so that tokens made by tests are good. */
  constructor(wallStartMs = Date.now()) {
    this.#wallStartMs = wallStartMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallStartMs + this.#nowMs;
  }

  after(delayMs: number, run: () => void): CancelTimer {
    const task = { atMs: this.#nowMs + Math.max(0, delayMs), run };
    this.#tasks.add(task);
    return () => void this.#tasks.delete(task);
  }

  /** How many tasks wait: what is over should leave none behind. */
  get pendingTasks(): number {
    return this.#tasks.size;
  }

  /** Lets time pass: runs what falls due in the order of its time, tasks made on the way included. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      // Of those due at the same time, the one made first: a Set keeps its order.
      let next: Task | undefined;
      for (const task of this.#tasks) {
        if (task.atMs <= endMs && (next === undefined || task.atMs < next.atMs)) next = task;
      }
      if (next === undefined) break;
      this.#tasks.delete(next);
      this.#nowMs = next.atMs;
      next.run();
    }
    this.#nowMs = endMs;
  }
}
