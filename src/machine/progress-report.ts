import type { CancelTimer, Clock } from '../base/clock.ts';
import type { ProgressReport } from './executor/messages.ts';
import { ReportError, type Attempt, type RunReporter } from './ports.ts';

const INTERVAL_MS = 1_000;

/** Reports the latest progress, once a second at most; what cannot be told is passed over. */
export class ProgressReports {
  readonly #about: Attempt;
  readonly #reporter: Pick<RunReporter, 'progress'>;
  readonly #clock: Clock;
  #latest: ProgressReport | undefined;
  #isWaiting = false;
  #cancel: CancelTimer = () => {};
  #isOver = false;

  constructor(about: Attempt, reporter: Pick<RunReporter, 'progress'>, clock: Clock) {
    const { runId, attempt, fence } = about;
    this.#about = { runId, attempt, fence };
    this.#reporter = reporter;
    this.#clock = clock;
  }

  put(report: ProgressReport): void {
    this.#latest = report;
    if (!this.#isWaiting) void this.flush();
  }

  /** Tells what was not told yet. */
  async flush(): Promise<void> {
    const report = this.#latest;
    if (report === undefined || this.#isOver) return;
    this.#latest = undefined;
    this.#isWaiting = true;
    try {
      await this.#reporter.progress({ v: 1, type: 'progress', ...this.#about, ...report });
    } catch (error) {
      if (!(error instanceof ReportError)) throw error;
      // The next one tells more than this one did.
    }
    if (this.#isOver) return;
    this.#cancel();
    this.#cancel = this.#clock.after(INTERVAL_MS, () => {
      this.#isWaiting = false;
      void this.flush();
    });
  }

  end(): void {
    this.#isOver = true;
    this.#cancel();
  }
}
