import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { offerSchema, type Offer } from '../jobs/messages.ts';
import { syncFolder, writeDurably } from './durable-file.ts';
import { outcomeSchema, type Outcome } from './executor/messages.ts';
import type { Attempt } from './ports.ts';

/** JSON around the outputs. */
const OUTCOME_EXTRA_BYTES = 1024 * 1024;
const TOKEN_BYTES = 32;
const SOCKET_NAME_BYTES = 12;

const recordSchema = v.object({
  offer: offerSchema,
  /** With which the executor shows that it is this run's; no other program is told. */
  token: v.string(),
  socketName: v.string(),
});

/**
 * The files of one attempt, all of the service's account alone: `offer.json` (with its envelopes still
 * sealed), `log` as the job wrote it (its password is masked when it is uploaded), `outcome.json` as the
 * executor leaves it, `end.json` as it is reported.
 */
export class RunFolder {
  readonly offer: Offer;
  readonly token: string;
  readonly socketName: string;
  readonly #path: string;

  private constructor(path: string, record: v.InferOutput<typeof recordSchema>) {
    this.#path = path;
    this.offer = record.offer;
    this.token = record.token;
    this.socketName = record.socketName;
  }

  /** On disk when this resolves. Rejects when the disk does not take it. */
  static async create(runs: string, offer: Offer): Promise<RunFolder> {
    const path = join(runs, nameOf(offer));
    await rm(path, { recursive: true, force: true });
    await mkdir(path, { mode: 0o700 });
    const record = {
      offer,
      token: randomBytes(TOKEN_BYTES).toString('base64url'),
      socketName: randomBytes(SOCKET_NAME_BYTES).toString('hex'),
    };
    try {
      await writeDurably(join(path, 'offer.json'), JSON.stringify(record));
      await syncFolder(path);
    } catch (error) {
      await rm(path, { recursive: true, force: true });
      throw error;
    }
    return new RunFolder(path, record);
  }

  /** Of an attempt in the journal. Undefined: it is not there, or damaged. */
  static async load(runs: string, about: Attempt): Promise<RunFolder | undefined> {
    const path = join(runs, nameOf(about));
    const record = parse(recordSchema, await readIfThere(join(path, 'offer.json')));
    const offer = record?.offer;
    const isIts = offer?.runId === about.runId && offer.fence === about.fence;
    return record === undefined || !isIts ? undefined : new RunFolder(path, record);
  }

  /** Removes the folders whose names are not among these: what was never promised, or is over. */
  static async sweep(runs: string, names: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(runs)) {
      if (!names.has(name)) await rm(join(runs, name), { recursive: true, force: true });
    }
  }

  get name(): string {
    return nameOf(this.offer);
  }

  get logPath(): string {
    return join(this.#path, 'log');
  }

  /** For the executor; whoever opened them closes them. */
  async openFiles(): Promise<{ readonly log: FileHandle; readonly outcome: FileHandle }> {
    const log = await open(this.logPath, 'a', 0o600);
    try {
      return { log, outcome: await open(this.#pathOf('outcome'), 'w', 0o600) };
    } catch (error) {
      await log.close();
      throw error;
    }
  }

  logBytes(): Promise<number> {
    return sizeOf(this.logPath);
  }

  /** What the executor left; undefined: nothing, or not all of it. */
  async readOutcome(): Promise<Outcome | undefined> {
    const path = this.#pathOf('outcome');
    const bytesMax = this.offer.limits.outputBytes + OUTCOME_EXTRA_BYTES;
    const size = await sizeOf(path);
    if (size > bytesMax) return undefined;
    const text = await readIfThere(path);
    // Its end is written last.
    return text?.endsWith('\n') === true ? parse(outcomeSchema, text) : undefined;
  }

  async readEnd(): Promise<Outcome | undefined> {
    return parse(outcomeSchema, await readIfThere(this.#pathOf('end')));
  }

  /** On disk when this resolves. Rejects when the disk does not take it. */
  writeEnd(end: Outcome): Promise<void> {
    return writeDurably(this.#pathOf('end'), JSON.stringify(end));
  }

  async remove(): Promise<void> {
    await rm(this.#path, { recursive: true, force: true });
  }

  #pathOf(name: 'outcome' | 'end'): string {
    return join(this.#path, `${name}.json`);
  }
}

function nameOf({ runId, fence }: Pick<Attempt, 'runId' | 'fence'>): string {
  return `run-${runId}.${fence}`;
}

/** Of a file, in bytes; of one that is not there 0. */
export async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch {
    return 0;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function parse<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string | undefined,
): v.InferOutput<Schema> | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = v.safeParse(schema, value);
  return parsed.success ? parsed.output : undefined;
}
