import type { Clock } from '../base/clock.ts';
import { JOB_ERRORS } from '../jobs/error-codes.ts';
import { SCHEDULE, type Schedule, type ScheduleOutcome } from './automation-records.ts';
import { oneByOne } from './one-by-one.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository } from './repository.ts';
import type { RunAs } from './run-as.ts';
import { nextTimeOf } from './schedule-times.ts';
import { moveDue, scheduleHistoryLog, SCHEDULES_DUE_INDEX } from './schedules.ts';

/** Who is later than this was not there: what the schedule says of missed times is done. */
export const MISSED_AFTER_MS = 60_000;
/** Read at a time. */
const AT_A_TIME = 200;
const HISTORY_KEEP = 100;

/**
 * Starts what is due. However many do so at once, each time starts one run: the step that queues it moves the
 * schedule on, and is taken only while the schedule is still due at that time.
 */
export class ScheduleFiring {
  readonly #repository: Repository;
  readonly #runAs: RunAs;
  readonly #clock: Clock;

  constructor(repository: Repository, runAs: RunAs, clock: Clock) {
    this.#repository = repository;
    this.#runAs = runAs;
    this.#clock = clock;
  }

  async sweep(): Promise<void> {
    const to = this.#clock.wallMs();
    const due = await this.#repository.all(SCHEDULES_DUE_INDEX, { to, limit: AT_A_TIME });
    await oneByOne(due, ({ member }) => this.#fire(member));
  }

  async #fire(id: string): Promise<void> {
    const schedule = await this.#repository.get(SCHEDULE, id);
    const dueAtMs = schedule?.value.nextAtMs;
    const nowMs = this.#clock.wallMs();
    if (schedule === undefined || dueAtMs === undefined || dueAtMs > nowMs) return;
    const { run: body, runOwner, onMissed } = schedule.value;
    const isMissed = nowMs - dueAtMs > MISSED_AFTER_MS;
    if (isMissed && onMissed === 'skip') {
      await this.#moveOn(id, { dueAtMs, outcome: 'missed' });
      return;
    }
    try {
      await this.#runAs.submit(runOwner, {
        body,
        trigger: 'schedule',
        with: (draft, runId) => this.#advance(draft, id, { dueAtMs, outcome: 'started', runId }),
      });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error === OVERTAKEN) return;
      // Room may come; until then it stays due.
      if (JOB_ERRORS[error.code].class === 'caller-retries' && !isMissed) return;
      const { code, message } = error;
      await this.#moveOn(id, { dueAtMs, outcome: 'failed', code, message });
    }
  }

  async #moveOn(id: string, told: Omit<ScheduleOutcome, 'atMs'>): Promise<void> {
    try {
      await this.#repository.change(async () => {
        const draft = new Draft();
        await this.#advance(draft, id, told);
        return { draft, answer: undefined };
      });
    } catch (error) {
      if (error !== OVERTAKEN) throw error;
    }
  }

  /** Throws `OVERTAKEN` when somebody else has done it, or the schedule was changed. */
  async #advance(draft: Draft, id: string, told: Omit<ScheduleOutcome, 'atMs'>): Promise<void> {
    const before = await this.#repository.get(SCHEDULE, id);
    if (before?.value.nextAtMs !== told.dueAtMs) throw OVERTAKEN;
    const nowMs = this.#clock.wallMs();
    const last: ScheduleOutcome = { atMs: nowMs, ...told };
    const nextAtMs = nextTimeOf(before.value, nowMs);
    const value: Schedule = { ...before.value, nextAtMs, last };
    draft.replace(SCHEDULE, before, value).append(scheduleHistoryLog(id), last, HISTORY_KEEP);
    moveDue(draft, value);
  }
}

const OVERTAKEN = new Problem('VersionConflict');
