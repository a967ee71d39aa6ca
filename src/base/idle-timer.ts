import type { CancelTimer, Clock } from './clock.ts';

/**
 * Calls `onIdle` once when nothing was `touch`ed for `timeoutMs`. Touching costs one assignment, so
 * it may be done for every chunk: the timer is not moved, it looks again when it fires.
 */
export class IdleTimer {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #onIdle: () => void;
  #touchedAtMs: number;
  #cancel: CancelTimer;

  constructor(clock: Clock, timeoutMs: number, onIdle: () => void) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#onIdle = onIdle;
    this.#touchedAtMs = clock.nowMs();
    this.#cancel = clock.after(timeoutMs, () => this.#look());
  }

  touch(): void {
    this.#touchedAtMs = this.#clock.nowMs();
  }

  stop(): void {
    this.#cancel();
  }

  #look(): void {
    const leftMs = this.#touchedAtMs + this.#timeoutMs - this.#clock.nowMs();
    // Timers may fire a fraction of a millisecond early; that much is not worth another round.
    if (leftMs < 1) this.#onIdle();
    else this.#cancel = this.#clock.after(leftMs, () => this.#look());
  }
}
