import { Cron } from 'croner';
import type { Schedule } from './automation-records.ts';
import { formatMoment } from './moments.ts';

export type Timing = Pick<Schedule, 'cron' | 'timeZone' | 'everySeconds' | 'anchorAtMs'>;

/** Moments that are later than this never come, as far as anybody cares. */
const AHEAD_MS_MAX = 10 * 366 * 24 * 3_600_000;

/**
 * The first time after a moment; undefined when there is none. At a change to or from summer time a fixed time
 * of day comes once each day: one that is left out comes right after the gap, one that is there twice counts
 * the first time. Times with `*`, steps or lists come as often as the clock shows them.
 */
export function nextTimeOf(timing: Timing, afterMs: number): number | undefined {
  const { cron, timeZone, everySeconds, anchorAtMs } = timing;
  if (cron === undefined) {
    const everyMs = (everySeconds ?? 0) * 1_000;
    if (everyMs === 0) return undefined;
    const count = Math.floor((afterMs - anchorAtMs) / everyMs) + 1;
    return anchorAtMs + Math.max(1, count) * everyMs;
  }
  const next = parse(cron, timeZone)?.nextRun(formatMoment(afterMs))?.getTime();
  return next === undefined || next - afterMs > AHEAD_MS_MAX ? undefined : next;
}

/** What is wrong with a schedule's time; undefined: nothing. */
export function faultOfTiming(timing: Timing, nowMs: number): string | undefined {
  const { cron, timeZone } = timing;
  if (cron !== undefined && parse(cron, timeZone) === undefined) {
    return 'must have five parts: minute, hour, day of the month, month, day of the week';
  }
  return nextTimeOf(timing, nowMs) === undefined ? 'never comes' : undefined;
}

export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    // This is how it says that there is no such zone.
    return false;
  }
}

function parse(cron: string, timezone: string): Cron | undefined {
  try {
    // Without a function it starts nothing.
    return new Cron(cron, { timezone, mode: '5-part' });
  } catch {
    return undefined;
  }
}
