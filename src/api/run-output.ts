import type { Repository } from '../dispatch/repository.ts';
import { OUTPUT_PART, type Run } from '../dispatch/run-record.ts';

const HALF_PAIR_AT_END = /[\ud800-\udbff]$/;

/**
 * The outputs of a run, part by part, so that no more than one is in memory at a time. Throws when a part is
 * not there (any more): what was sent until then is not to be taken for the whole.
 */
export async function* outputParts(
  repository: Repository,
  { key, parts }: NonNullable<Run['output']>,
): AsyncGenerator<Uint8Array> {
  // Parts are cut without regard to characters of two units, whose halves have no UTF-8 of their own.
  let half = '';
  for (let number = 0; number < parts; number += 1) {
    const part = await repository.get(OUTPUT_PART, `${key}.${number}`);
    if (part === undefined) throw new Error(`The outputs ${key} lack part ${number}`);
    const text = half + part.value.text;
    const isCut = number + 1 < parts && HALF_PAIR_AT_END.test(text);
    half = isCut ? text.slice(-1) : '';
    yield Buffer.from(isCut ? text.slice(0, -1) : text);
  }
}
