/** Whether a version is below the one that is wanted. Versions are numbers between dots; what is no number is 0. */
export function isOlderVersion(version: string, wanted: string | undefined): boolean {
  if (wanted === undefined) return false;
  const [own, other] = [partsOf(version), partsOf(wanted)];
  for (let index = 0; index < Math.max(own.length, other.length); index += 1) {
    const difference = (own[index] ?? 0) - (other[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function partsOf(version: string): readonly number[] {
  const [numbers = ''] = version.split(/[-+]/);
  return numbers.split('.').map(part => (/^\d+$/.test(part) ? Number(part) : 0));
}
