import type { CancelTimer, Clock } from '../../base/clock.ts';
import { JOB_ERRORS } from '../../jobs/error-codes.ts';
import { CANCEL_GRACE_SECONDS } from '../../jobs/limits.ts';
import type { Cancel } from '../../jobs/messages.ts';
import type { Outcome } from './messages.ts';

type Mode = Cancel['mode'];

const STRENGTH: Readonly<Record<Mode, number>> = { 'safe-stop': 0, stop: 1, kill: 2 };

/**
 * Why and how hard a job is to end: a wish that only gets stronger. `stop` turns into `kill` when its
 * grace is over; when the time of the run is over that is a `stop` too. Source: job-dispatch.md section 7.6.
 */
export class Ending {
  readonly #clock: Clock;
  readonly #observers: ((mode: Mode) => void)[] = [];
  readonly #cancelTimeLimit: CancelTimer;
  #cancelGrace: CancelTimer = () => {};
  #mode: Mode | undefined;
  #isTimedOut = false;

  constructor(clock: Clock, runSeconds: number) {
    this.#clock = clock;
    this.#cancelTimeLimit = clock.after(runSeconds * 1_000, () => {
      // Who was told to stop before its time was over is cancelled, even if that takes longer.
      this.#isTimedOut = this.#mode === undefined || this.#mode === 'safe-stop';
      this.ask('stop', CANCEL_GRACE_SECONDS);
    });
  }

  get mode(): Mode | undefined {
    return this.#mode;
  }

  ask(mode: Mode, graceSeconds: number): void {
    if (this.#mode !== undefined && STRENGTH[mode] <= STRENGTH[this.#mode]) return;
    this.#mode = mode;
    if (mode === 'stop') {
      this.#cancelGrace = this.#clock.after(graceSeconds * 1_000, () => this.ask('kill', 0));
    }
    for (const observer of this.#observers) observer(mode);
  }

  /** Called for each rise, and at once when there was one. */
  onAsked(observer: (mode: Mode) => void): void {
    this.#observers.push(observer);
    if (this.#mode !== undefined) observer(this.#mode);
  }

  /** What a job that has ended is called: its own outcome, unless it was made to end. */
  outcome(own: Outcome): Outcome {
    if (this.#mode === undefined || this.#mode === 'safe-stop') return own;
    const { exitCode, outputs } = own;
    const rest = {
      ...(exitCode === undefined ? {} : { exitCode }),
      ...(outputs === undefined ? {} : { outputs }),
    };
    if (!this.#isTimedOut) return { status: 'Cancelled', ...rest };
    const code = 'DesktopFlowsActionTimeout';
    return { status: 'TimedOut', error: { code, message: JOB_ERRORS[code].text }, ...rest };
  }

  close(): void {
    this.#cancelTimeLimit();
    this.#cancelGrace();
  }
}
