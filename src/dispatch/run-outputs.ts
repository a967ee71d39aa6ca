import { Draft, type Repository } from './repository.ts';
import { OUTPUT_PART, type Run } from './run-record.ts';

// Outputs may be larger than a record may be: they are kept in parts, written before the step that makes
// them the run's. Parts of a result that was then not taken are removed at once.

/** In UTF-16 units; JSON of them stays below the longest record, whatever they are. */
const PART_CHARS = 512 * 1024;
/** Part ids are `<key>.<number>`; a key is the run's and its fence's, so that no attempt writes over another's. */
export function outputKeyOf(runId: string, fence: number): string {
  return `${runId}.${fence}`;
}

/** Writes outputs; writing the same again is harmless. */
export async function writeOutput(
  repository: Repository,
  key: string,
  text: string,
): Promise<NonNullable<Run['output']>> {
  const parts = partsOf(text);
  for (const [number, part] of parts.entries()) {
    await repository.change(async () => {
      const id = `${key}.${number}`;
      const before = await repository.get(OUTPUT_PART, id);
      const draft = new Draft();
      if (before === undefined) draft.create(OUTPUT_PART, id, { text: part });
      else if (before.value.text !== part) draft.replace(OUTPUT_PART, before, { text: part });
      return { draft, answer: undefined };
    });
  }
  return { key, parts: parts.length, bytes: Buffer.byteLength(text) };
}

export async function readOutput(
  repository: Repository,
  { output }: Run,
): Promise<string | undefined> {
  if (output === undefined) return undefined;
  const ids = Array.from({ length: output.parts }, (_part, number) => `${output.key}.${number}`);
  const parts = await repository.getMany(OUTPUT_PART, ids);
  return parts.map(({ value }) => value.text).join('');
}

export async function removeOutput(
  repository: Repository,
  { key, parts }: NonNullable<Run['output']>,
): Promise<void> {
  for (let number = 0; number < parts; number += 1) {
    await repository.change(async () => {
      const part = await repository.get(OUTPUT_PART, `${key}.${number}`);
      const draft = new Draft();
      if (part !== undefined) draft.remove(OUTPUT_PART, part);
      return { draft, answer: undefined };
    });
  }
}

/** Parts of a result that no run knows of, as many as there are. */
export async function removeStrayOutput(repository: Repository, key: string): Promise<void> {
  let parts = 0;
  while ((await repository.get(OUTPUT_PART, `${key}.${parts}`)) !== undefined) parts += 1;
  if (parts > 0) await removeOutput(repository, { key, parts, bytes: 0 });
}

function partsOf(text: string): readonly string[] {
  const count = Math.ceil(text.length / PART_CHARS);
  return Array.from({ length: count }, (_part, number) =>
    text.slice(number * PART_CHARS, (number + 1) * PART_CHARS),
  );
}
