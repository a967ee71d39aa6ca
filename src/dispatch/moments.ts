import { formatTimestamp } from '../protocol/timestamps.ts';

const MOMENT = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?Z$/;
const MS_PER_DAY = 86_400_000;
const DAYS_TO_1970 = 719_468;

/** `2026-01-05T10:00:00Z`, from wall-clock milliseconds. */
export function formatMoment(wallMs: number): string {
  return `${formatTimestamp(wallMs)}Z`;
}

/** Wall-clock milliseconds of a moment in UTC; undefined for any other text. */
export function parseMoment(text: string): number | undefined {
  const found = MOMENT.exec(text);
  if (found === null) return undefined;
  const [year = 0, month = 0, day = 0, h = 0, m = 0, s = 0] = found
    .slice(1, 7)
    .map(part => Number(part ?? 0));
  const isPossible =
    month >= 1 && month <= 12 && day >= 1 && day <= 31 && h < 24 && m < 60 && s < 61;
  if (!isPossible) return undefined;
  const fraction = Number(`0.${found[7] ?? '0'}`);
  return (
    dayNumber(year, month, day) * MS_PER_DAY +
    (h * 3_600 + m * 60 + s) * 1_000 +
    Math.floor(fraction * 1_000)
  );
}

/** Days since 1970. Counts years from March, so that the leap day is the last day of a year. */
function dayNumber(year: number, month: number, day: number): number {
  const fromMarch = (month + 9) % 12;
  const marchYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(marchYear / 400);
  const yearOfEra = marchYear - era * 400;
  const dayOfYear = Math.floor((153 * fromMarch + 2) / 5) + day - 1;
  const leapDays = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  return era * 146_097 + yearOfEra * 365 + leapDays + dayOfYear - DAYS_TO_1970;
}
