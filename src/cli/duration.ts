const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `30m`, `1h`, `7d`, or seconds without a unit; in milliseconds. Undefined when it is none, or zero. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})([smhd]?)$/.exec(text);
  const ms = Number(match?.[1]) * (UNIT_MS[match?.[2] || 's'] ?? Number.NaN);
  return ms > 0 ? ms : undefined;
}
