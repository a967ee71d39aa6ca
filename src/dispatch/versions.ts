/** Whether a version (`1.4.0`) is at least another. What is not a number counts as 0. */
export function isAtLeast(version: string, least: string): boolean {
  const [ours, wanted] = [numbersOf(version), numbersOf(least)];
  for (const [place, number] of wanted.entries()) {
    const own = ours[place] ?? 0;
    if (own !== number) return own > number;
  }
  return true;
}

/** What stands behind `-` or `+` is left out. */
function numbersOf(version: string): readonly number[] {
  const [core = ''] = version.split(/[-+]/);
  return core.split('.').map(part => (/^\d{1,9}$/.test(part) ? Number(part) : 0));
}
