import { systemClock } from '../base/clock.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Wall-clock milliseconds of an ISO 8601 text. */
export function millisecondsOf(moment: string): number {
  // oxlint-disable-next-line no-restricted-globals -- reads a text, not the time
  return Date.parse(moment);
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'short' });

export function exactTime(moment: string): string {
  return exact.format(millisecondsOf(moment));
}

/** Without the day. */
export function timeOfDay(moment: string): string {
  return clockTime.format(millisecondsOf(moment));
}

/** `3 min. ago`, `in 2 hr.`, `now`. */
export function relativeTime(moment: string, nowMs: number = systemClock.wallMs()): string {
  const ms = millisecondsOf(moment) - nowMs;
  const size = Math.abs(ms);
  if (size < 5 * SECOND) return 'now';
  if (size < MINUTE) return relative.format(Math.round(ms / SECOND), 'second');
  if (size < HOUR) return relative.format(Math.round(ms / MINUTE), 'minute');
  if (size < DAY) return relative.format(Math.round(ms / HOUR), 'hour');
  return relative.format(Math.round(ms / DAY), 'day');
}

/** `850 ms`, `12.3 s`, `4 min 5 s`, `2 h 10 min`. */
export function durationText(ms: number): string {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < MINUTE) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ${Math.floor((ms % MINUTE) / SECOND)} s`;
  return `${Math.floor(ms / HOUR)} h ${Math.floor((ms % HOUR) / MINUTE)} min`;
}

/** Between two moments; the second one may not have come yet. */
export function durationBetween(from: string, to: string | undefined): string {
  const endMs = to === undefined ? systemClock.wallMs() : millisecondsOf(to);
  return durationText(endMs - millisecondsOf(from));
}
