import * as v from 'valibot';
import type { Clock } from '../base/clock.ts';
import { requireIn, requireMay, withGrant, type Action, type Caller } from './access.ts';
import { audit } from './audit.ts';
import {
  SCHEDULE,
  scheduleOutcomeSchema,
  type Schedule,
  type ScheduleOutcome,
} from './automation-records.ts';
import { newId, parseBody, requireVersion } from './checks.ts';
import { repetitionOf } from './idempotency.ts';
import { pageOf, type Page, type PageQuery } from './paging.ts';
import { Problem } from './problem.ts';
import { grantSchema, nameSchema, principalSchema, type Grant } from './records.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import { runTemplateSchema } from './run-request.ts';
import { requireRunnable } from './run-template.ts';
import { faultOfTiming, isTimeZone, nextTimeOf, type Timing } from './schedule-times.ts';

const SCHEDULES_INDEX = 'schedules';
/** Enabled ones, by when they are due. */
export const SCHEDULES_DUE_INDEX = 'schedules-due';
const SCHEDULES_MAX = 1_000;
const EVERY_SECONDS_MIN = 60;
const EVERY_SECONDS_MAX = 366 * 24 * 3_600;

const timing = {
  cron: v.optional(v.pipe(v.string(), v.maxLength(200))),
  /** IANA; of `cron`. */
  timeZone: v.optional(
    v.pipe(v.string(), v.maxLength(64), v.check(isTimeZone, 'must be a time zone: Europe/Berlin')),
  ),
  everySeconds: v.optional(
    v.pipe(
      v.number(),
      v.safeInteger(),
      v.minValue(EVERY_SECONDS_MIN),
      v.maxValue(EVERY_SECONDS_MAX),
    ),
  ),
};
export const newScheduleSchema = v.pipe(
  v.strictObject({
    name: nameSchema,
    ...timing,
    onMissed: v.optional(v.picklist(['skip', 'once']), 'skip'),
    isEnabled: v.optional(v.boolean(), true),
    run: runTemplateSchema,
  }),
  v.check(
    ({ cron, everySeconds }) => (cron === undefined) !== (everySeconds === undefined),
    'must have either cron or everySeconds',
  ),
);
export const schedulePatchSchema = v.pipe(
  v.strictObject({
    name: v.optional(nameSchema),
    ...timing,
    onMissed: v.optional(v.picklist(['skip', 'once'])),
    isEnabled: v.optional(v.boolean()),
    run: v.optional(runTemplateSchema),
  }),
  v.check(
    ({ cron, everySeconds }) => cron === undefined || everySeconds === undefined,
    'must have either cron or everySeconds',
  ),
);
type Patch = v.InferOutput<typeof schedulePatchSchema>;

export function scheduleHistoryLog(id: string): string {
  return `schedule-history:${id}`;
}

/** Runs that are started by the time, as people set them. What starts them is in schedule-firing.ts. */
export class Schedules {
  readonly #repository: Repository;
  readonly #clock: Clock;

  constructor(repository: Repository, clock: Clock) {
    this.#repository = repository;
    this.#clock = clock;
  }

  async create(caller: Caller, body: unknown, key?: string): Promise<Versioned<Schedule>> {
    requireIn(caller, 'run');
    const request = parseBody(newScheduleSchema, body);
    return this.#repository.change(async () => {
      const nowMs = this.#clock.wallMs();
      const about = { key, caller: caller.name, kind: 'schedule', body };
      const repetition = await repetitionOf(this.#repository, about, nowMs);
      if (repetition.resourceId !== undefined) {
        const schedule = await this.#get(caller, 'view', repetition.resourceId);
        return { draft: new Draft(), answer: schedule };
      }
      await requireRunnable(this.#repository, caller, request.run);
      const id = newId();
      const value = dueAgain(
        {
          ...request,
          timeZone: request.timeZone ?? 'UTC',
          id,
          anchorAtMs: nowMs,
          runOwner: caller.name,
          owner: caller.name,
          access: {},
          createdAtMs: nowMs,
          createdBy: caller.name,
        },
        nowMs,
      );
      const full = new Problem('QuotaReached', `an environment has ${SCHEDULES_MAX} schedules`);
      const draft = new Draft()
        .create(SCHEDULE, id, value)
        .below(SCHEDULES_INDEX, SCHEDULES_MAX, full)
        .add(SCHEDULES_INDEX, id, nowMs);
      moveDue(draft, value);
      repetition.remember(draft, id);
      this.#audit(draft, caller, 'schedule.create', value);
      return { draft, answer: { id, version: 1, value } };
    });
  }

  get(caller: Caller, id: string): Promise<Versioned<Schedule>> {
    return this.#get(caller, 'view', id);
  }

  list(caller: Caller, query: PageQuery): Promise<Page<Schedule>> {
    requireIn(caller, 'view');
    return pageOf(this.#repository, { kind: SCHEDULE, index: SCHEDULES_INDEX }, query);
  }

  /** What became of it each time, oldest first; the last 100 are kept. */
  async history(
    caller: Caller,
    id: string,
    query: { readonly after: number; readonly limit: number },
  ): Promise<readonly { readonly number: number; readonly entry: ScheduleOutcome }[]> {
    await this.#get(caller, 'view', id);
    const { entries } = await this.#repository.log(scheduleHistoryLog(id), query);
    return entries.map(({ number, text }) => ({
      number,
      entry: v.parse(scheduleOutcomeSchema, JSON.parse(text)),
    }));
  }

  /** Whoever changes what is run is the one whose rights count from then on. */
  patch(
    caller: Caller,
    id: string,
    ifMatch: number | undefined,
    body: unknown,
  ): Promise<Versioned<Schedule>> {
    const patch = parseBody(schedulePatchSchema, body);
    return this.#change(caller, id, 'schedule.patch', 'edit', async before => {
      requireVersion(before, ifMatch);
      if (patch.run !== undefined) {
        await requireRunnable(this.#repository, caller, patch.run);
      }
      return patched(before.value, patch, { by: caller.name, nowMs: this.#clock.wallMs() });
    });
  }

  setAccess(
    caller: Caller,
    id: string,
    principal: string,
    grant: Grant | undefined,
  ): Promise<Versioned<Schedule>> {
    const name = parseBody(principalSchema, principal);
    const given = parseBody(v.optional(grantSchema), grant);
    const action = `schedule.access.${given ?? 'none'}:${name}`;
    return this.#change(caller, id, action, 'share', async ({ value }) =>
      Promise.resolve({ ...value, access: withGrant(value.access, name, given) }),
    );
  }

  /** Runs that it has started go on. */
  async delete(caller: Caller, id: string, ifMatch: number | undefined): Promise<void> {
    await this.#repository.change(async () => {
      const schedule = await this.#get(caller, 'delete', id);
      requireVersion(schedule, ifMatch);
      const draft = new Draft()
        .remove(SCHEDULE, schedule)
        .drop(SCHEDULES_INDEX, id)
        .drop(SCHEDULES_DUE_INDEX, id)
        .clearLog(scheduleHistoryLog(id));
      this.#audit(draft, caller, 'schedule.delete', schedule.value);
      return { draft, answer: undefined };
    });
  }

  async #get(caller: Caller, action: Action, id: string): Promise<Versioned<Schedule>> {
    requireIn(caller, 'view');
    const schedule = await this.#repository.get(SCHEDULE, id);
    if (schedule === undefined) throw new Problem('NotFound', 'there is no such schedule');
    requireMay(caller, action, schedule.value);
    return schedule;
  }

  #change(
    caller: Caller,
    id: string,
    action: string,
    needed: Action,
    change: (before: Versioned<Schedule>) => Promise<Schedule>,
  ): Promise<Versioned<Schedule>> {
    return this.#repository.change(async () => {
      const before = await this.#get(caller, needed, id);
      const value = await change(before);
      const draft = new Draft().replace(SCHEDULE, before, value);
      moveDue(draft, value);
      this.#audit(draft, caller, action, value);
      return { draft, answer: { id, version: before.version + 1, value } };
    });
  }

  #audit(draft: Draft, caller: Caller, action: string, { id, runOwner }: Schedule): void {
    const entry = { atMs: this.#clock.wallMs(), action, by: caller.name, object: id };
    audit(draft, { ...entry, details: { runOwner } });
  }
}

/** Where a schedule stands among those that are due follows from its record. */
export function moveDue(draft: Draft, { id, nextAtMs }: Schedule): void {
  if (nextAtMs === undefined) draft.drop(SCHEDULES_DUE_INDEX, id);
  else draft.add(SCHEDULES_DUE_INDEX, id, nextAtMs);
}

/** With the time at which it is due next. */
export function dueAgain(schedule: Schedule, nowMs: number): Schedule {
  const nextAtMs = schedule.isEnabled ? nextTimeOf(schedule, nowMs) : undefined;
  requireTiming(schedule, nowMs);
  return { ...schedule, nextAtMs };
}

function requireTiming(timing_: Timing, nowMs: number): void {
  const message = faultOfTiming(timing_, nowMs);
  if (message === undefined) return;
  const errors = [{ path: 'cron', message }];
  throw new Problem('RequestMalformed', undefined, { errors });
}

function patched(
  before: Schedule,
  patch: Patch,
  { by, nowMs }: { readonly by: string; readonly nowMs: number },
): Schedule {
  const { cron, everySeconds, run } = patch;
  const isOtherKind = cron !== undefined || everySeconds !== undefined;
  const isEnabled = patch.isEnabled ?? before.isEnabled;
  const value: Schedule = {
    ...before,
    name: patch.name ?? before.name,
    cron: isOtherKind ? cron : before.cron,
    everySeconds: isOtherKind ? everySeconds : before.everySeconds,
    anchorAtMs: everySeconds === undefined ? before.anchorAtMs : nowMs,
    timeZone: patch.timeZone ?? before.timeZone,
    onMissed: patch.onMissed ?? before.onMissed,
    isEnabled,
    run: run ?? before.run,
    runOwner: run === undefined ? before.runOwner : by,
  };
  const isOtherTime = isOtherKind || patch.timeZone !== undefined || isEnabled !== before.isEnabled;
  // A time that is due stays due, whatever else is changed.
  return isOtherTime ? dueAgain(value, nowMs) : value;
}
