// Calendar text from milliseconds, in UTC. Written out because protocol/ knows no clock, hence no Date.

const MS_PER_DAY = 86_400_000;
/** Days from 0000-03-01, the start of the calendar's 400-year cycle used here, to 1970-01-01. */
const DAYS_TO_1970 = 719_468;
const DAYS_PER_ERA = 146_097;

/** `yyyy-MM-ddTHH:mm:ss`, the form of a tracking text's `Timestamp`. */
export function formatTimestamp(wallMs: number): string {
  const day = Math.floor(wallMs / MS_PER_DAY);
  return `${dateText(day)}T${timeText(wallMs - day * MS_PER_DAY)}`;
}

/** `yyyy-MM-dd HH:mm:ssZ`, the form in which an expiry is told. */
export function formatExpiry(wallMs: number): string {
  return `${formatTimestamp(wallMs).replace('T', ' ')}Z`;
}

/** Counts years from March, so that the leap day is the last day of a year. */
function dateText(daysSince1970: number): string {
  const days = daysSince1970 + DAYS_TO_1970;
  const era = Math.floor(days / DAYS_PER_ERA);
  const dayOfEra = days - era * DAYS_PER_ERA;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1_460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  return `${padded(year, 4)}-${padded(month, 2)}-${padded(day, 2)}`;
}

function timeText(msOfDay: number): string {
  const seconds = Math.floor(msOfDay / 1_000);
  const [h, m, s] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${padded(h, 2)}:${padded(m, 2)}:${padded(s, 2)}`;
}

function padded(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
