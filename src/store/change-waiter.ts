import type { Clock } from '../base/clock.ts';

/** Waits for the next change of a store that only this process writes. */
export class ChangeWaiter {
  readonly #clock: Clock;
  #waiting: (() => void) | undefined;
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves at the next `changed` or `close`, or after `waitMs`. */
  async wait(waitMs: number): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>(resolve => {
      const cancel = Number.isFinite(waitMs)
        ? this.#clock.after(waitMs, () => this.changed())
        : undefined;
      this.#waiting = () => {
        cancel?.();
        resolve();
      };
    });
  }

  changed(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }

  close(): void {
    this.#isClosed = true;
    this.changed();
  }
}
