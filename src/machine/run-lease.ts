import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { RENEW_INTERVAL_MS, RENEW_JITTER, STARTED_LEASE_MS } from '../jobs/limits.ts';
import type { Renewed } from '../jobs/messages.ts';
import { ReportError, type Attempt, type RunReporter, type Standing } from './ports.ts';
import { pause } from './retry.ts';

/** After a renewal that was not answered. */
const RENEW_AGAIN_MS = 5_000;
/** How long a job goes on whose lease was said to be lost, until it is known what the control plane makes of it. */
const STANDING_WAIT_MS = 60_000;

export interface LeaseObserver {
  onCancel(cancel: NonNullable<Renewed['cancel']>): void;
  /** Somebody else has the run, or nobody wants it: it must stop, and its result is not wanted. */
  onLost(): void;
}

/**
 * Keeps the lease of one attempt. A job that was launched is not ended because its lease was lost while the
 * control plane could not be reached: what that calls lost may still be wanted (`resultRecovered`), and
 * only the answer to a hello tells. Source: job-dispatch.md section 9.3.
 */
export class RunLease {
  readonly #about: Attempt;
  readonly #reporter: Pick<RunReporter, 'renew'>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #observer: LeaseObserver;
  /** Asks for a hello soon. */
  readonly #askStandings: () => void;
  readonly #random: () => number;
  #isLaunched = false;
  #isRunning = false;
  #isOver = false;
  #isRenewing = false;
  #isWantedAgain = false;
  #cancelTimer: CancelTimer = () => {};
  #lostAtMs: number | undefined;
  #standing: Standing | undefined;

  constructor(
    { runId, attempt, fence }: Attempt,
    options: {
      readonly reporter: Pick<RunReporter, 'renew'>;
      readonly clock: Clock;
      readonly log: Logger;
      readonly observer: LeaseObserver;
      readonly askStandings: () => void;
      readonly random?: () => number;
    },
  ) {
    this.#about = { runId, attempt, fence };
    this.#reporter = options.reporter;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#observer = options.observer;
    this.#askStandings = options.askStandings;
    this.#random = options.random ?? Math.random;
  }

  /**
   * The renewal without which nothing is launched, tried while the lease may hold. `lost`: nothing is to be
   * launched; `late`: neither, and the control plane does not know yet.
   */
  async first(signal: AbortSignal): Promise<'held' | 'lost' | 'late'> {
    const untilMs = this.#clock.nowMs() + STARTED_LEASE_MS;
    for (;;) {
      const said = await this.#renew();
      if (said !== 'unreachable') return said;
      if (signal.aborted || this.#clock.nowMs() + RENEW_AGAIN_MS > untilMs) return 'late';
      await pause(this.#clock, RENEW_AGAIN_MS, signal);
    }
  }

  /** Renews from now on. */
  keep(): void {
    this.#isRunning = true;
    this.#schedule(this.#intervalMs());
  }

  /** The executor is up: told at once, and with every renewal. */
  launched(): void {
    this.#isLaunched = true;
    if (this.#isRunning) void this.#turn();
  }

  /** What the control plane makes of the run, as of now. */
  told(standing: Standing): void {
    this.#standing = standing;
    if (!this.#isLaunched || this.#isOver) return;
    // It may be about an attempt before this one: the renewal decides.
    if (standing !== 'current') void this.#turn();
    else this.#lostAtMs = undefined;
  }

  end(): void {
    this.#isOver = true;
    this.#cancelTimer();
  }

  async #turn(): Promise<void> {
    if (this.#isRenewing) {
      this.#isWantedAgain = true;
      return;
    }
    this.#isRenewing = true;
    this.#cancelTimer();
    const said = await this.#renew();
    this.#isRenewing = false;
    if (this.#isOver) return;
    if (said === 'held') {
      this.#lostAtMs = undefined;
      this.#standing = undefined;
    } else if (said === 'lost' && this.#isGone()) {
      this.end();
      this.#observer.onLost();
      return;
    }
    if (this.#isWantedAgain) {
      this.#isWantedAgain = false;
      void this.#turn();
    } else {
      this.#schedule(said === 'held' ? this.#intervalMs() : RENEW_AGAIN_MS);
    }
  }

  /** Whether a lease that was said to be lost leaves nothing to do. */
  #isGone(): boolean {
    if (!this.#isLaunched || this.#standing === 'lost' || this.#standing === 'over') return true;
    const nowMs = this.#clock.nowMs();
    if (this.#standing === 'current') {
      // Wanted though lost; asked again from time to time.
      this.#lostAtMs = nowMs;
      this.#standing = undefined;
    }
    this.#lostAtMs ??= nowMs;
    this.#askStandings();
    return nowMs - this.#lostAtMs >= STANDING_WAIT_MS;
  }

  async #renew(): Promise<'held' | 'lost' | 'unreachable'> {
    try {
      const { cancel } = await this.#reporter.renew(this.#about, this.#isLaunched);
      if (cancel !== null && !this.#isOver) this.#observer.onCancel(cancel);
      return 'held';
    } catch (error) {
      if (!(error instanceof ReportError)) throw error;
      this.#log.debug({ ...this.#about, code: error.code }, 'the lease was not renewed');
      return error.code === 'LeaseLost' ? 'lost' : 'unreachable';
    }
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(delayMs, () => void this.#turn());
  }

  #intervalMs(): number {
    return RENEW_INTERVAL_MS * (1 + RENEW_JITTER * (2 * this.#random() - 1));
  }
}
