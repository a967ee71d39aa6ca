import type { CancelTimer, Clock } from '../base/clock.ts';

export interface HeartbeatDeps {
  readonly clock: Clock;
  readonly everyMs: number;
  /** What is done with each beat. Rejects for a bug only. */
  readonly beat: () => Promise<void>;
  /** Whether a beat that was wanted meanwhile may follow at once. */
  readonly mayRepeat: () => boolean;
  readonly reportBug: (bug: unknown) => void;
}

/** Beats again and again, and sooner when that is wanted; one beat at a time. */
export class Heartbeat {
  readonly #deps: HeartbeatDeps;
  #cancelNext: CancelTimer | undefined;
  #isBeating = false;
  #isWanted = false;
  #isStopped = false;

  constructor(deps: HeartbeatDeps) {
    this.#deps = deps;
  }

  /** Beats now, or once more behind the beat under way. */
  now(): void {
    if (this.#isBeating) this.#isWanted = true;
    else if (!this.#isStopped) void this.beat();
  }

  later(): void {
    this.#cancelNext?.();
    if (this.#isStopped) return;
    this.#cancelNext = this.#deps.clock.after(this.#deps.everyMs, () => void this.beat());
  }

  /** Resolves when the beat is over. Cannot reject. */
  async beat(): Promise<void> {
    if (this.#isBeating) return;
    const { beat, mayRepeat, reportBug } = this.#deps;
    this.#isBeating = true;
    this.#cancelNext?.();
    try {
      do {
        this.#isWanted = false;
        await beat();
      } while (this.#isWanted && !this.#isStopped && mayRepeat());
    } catch (bug) {
      reportBug(bug);
    } finally {
      this.#isBeating = false;
      this.later();
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelNext?.();
  }
}
