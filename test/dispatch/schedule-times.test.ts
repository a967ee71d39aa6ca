import { describe, expect, test } from 'vitest';
import { faultOfTiming, isTimeZone, nextTimeOf } from '../../src/dispatch/schedule-times.ts';

const at = (text: string) => Date.parse(text);

function cron(expression: string, timeZone = 'UTC') {
  return { cron: expression, timeZone, everySeconds: undefined, anchorAtMs: 0 };
}

function every(everySeconds: number, anchorAtMs: number) {
  return { cron: undefined, timeZone: 'UTC', everySeconds, anchorAtMs };
}

describe('nextTimeOf()', () => {
  test.each([
    ['*/15 * * * *', 'UTC', '2026-01-05T10:00:00Z', '2026-01-05T10:15:00Z'],
    ['0 9 * * 1-5', 'Europe/Berlin', '2026-01-09T09:00:00Z', '2026-01-12T08:00:00Z'],
    ['0 0 29 2 *', 'UTC', '2026-11-25T12:00:00Z', '2028-02-29T00:00:00Z'],
    ['@daily', 'America/New_York', '2026-01-05T10:00:00Z', '2026-01-06T05:00:00Z'],
    // The night in which 02:30 is left out, and the one in which it is there twice.
    ['30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', '2026-03-29T01:00:00Z'],
    ['30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', '2026-10-25T00:30:00Z'],
    ['30 2 * * *', 'Europe/Berlin', '2026-10-25T00:30:00Z', '2026-10-26T01:30:00Z'],
  ])('%s in %s comes after %s at %s', (expression, zone, after, expected) => {
    expect(nextTimeOf(cron(expression, zone), at(after))).toBe(at(expected));
  });

  test('counts periods from where they began, whenever it is asked', () => {
    expect(nextTimeOf(every(90, 1_000), 1_000)).toBe(91_000);
    expect(nextTimeOf(every(90, 1_000), 90_999)).toBe(91_000);
    expect(nextTimeOf(every(90, 1_000), 91_000)).toBe(181_000);
    expect(nextTimeOf(every(90, 1_000), 0)).toBe(91_000);
  });
});

describe('faultOfTiming()', () => {
  test.each(['* * * * * *', 'x', '', '60 * * * *', '0 0 1 1 * 2020', '@reboot', '* * * *'])(
    'refuses "%s"',
    expression => {
      expect(faultOfTiming(cron(expression), 0)).toContain('five parts');
    },
  );

  test('refuses a day that never comes', () => {
    expect(faultOfTiming(cron('0 0 30 2 *'), 0)).toBe('never comes');
    expect(faultOfTiming(cron('0 0 28 2 *'), 0)).toBeUndefined();
  });
});

test('isTimeZone() knows those of IANA and no other', () => {
  expect(['Europe/Berlin', 'UTC', 'Asia/Kolkata'].every(isTimeZone)).toBe(true);
  expect(['Mars/Olympus', '', 'x'].some(isTimeZone)).toBe(false);
});
