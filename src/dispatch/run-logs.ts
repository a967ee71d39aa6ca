import * as v from 'valibot';
import { LOG_BYTES_MAX, LOG_CHUNK_BYTES_MAX } from '../jobs/limits.ts';
import { LOG_KEEP_MAX } from '../store/dispatch-store.ts';
import { sha256Of } from './checks.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { RunChanges } from './run-changes.ts';
import { RUN_LOG, type RunLog } from './run-record.ts';
import { guard, type Attempt } from './run-reports.ts';

export interface LogChunk extends Attempt {
  /** Where it begins in this attempt's log, in bytes. */
  readonly offset: number;
  /** Of the bytes, in hex. */
  readonly sha256: string;
  /** Plain, not compressed. */
  readonly bytes: Uint8Array;
}

export interface LogAnswer {
  /** False: there is a gap before it; send from `nextOffset` on. */
  readonly isTaken: boolean;
  readonly nextOffset: number;
  /** As much is kept as may be: send no more. */
  readonly isTruncated: boolean;
}

const chunkSchema = v.object({
  attempt: v.number(),
  offset: v.number(),
  /** The bytes, base64. */
  data: v.string(),
});

export interface ReadChunk {
  /** Where to go on reading: the next one's is higher. */
  readonly number: number;
  readonly attempt: number;
  readonly offset: number;
  readonly bytes: Buffer;
}

export function runLogName(runId: string): string {
  return `log:${runId}`;
}

/** What jobs write, in the chunks in which it came. */
export class RunLogs {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #bytesMax: number;

  /** `bytesMax`: of one attempt; what comes after is thanked for and dropped. */
  constructor(repository: Repository, changes: RunChanges, bytesMax = LOG_BYTES_MAX) {
    this.#repository = repository;
    this.#changes = changes;
    this.#bytesMax = bytesMax;
  }

  /**
   * Takes a chunk, once. Also after the result: logs may come late. Throws `LeaseLost`,
   * `TotalChunksMismatch` when the bytes do not fit their digest, `RequestMalformed`.
   */
  async append(machineId: string, chunk: LogChunk): Promise<LogAnswer> {
    const { runId, attempt, offset, bytes } = chunk;
    if (bytes.length === 0 || bytes.length > LOG_CHUNK_BYTES_MAX) {
      throw new Problem('RequestMalformed', `a chunk has 1 to ${LOG_CHUNK_BYTES_MAX} bytes`);
    }
    const digest = Buffer.from(sha256Of(bytes), 'base64url').toString('hex');
    if (digest !== chunk.sha256.toLowerCase()) throw new Problem('TotalChunksMismatch');
    return this.#repository.change(async () => {
      const run = await this.#changes.get(runId);
      guard(machineId, chunk, run.value);
      const before = await this.#repository.get(RUN_LOG, runId);
      const had = before?.value.attempt === attempt ? before.value : newLog(attempt);
      const end = offset + bytes.length;
      const draft = new Draft();
      // Known already, beyond what is kept, or behind a gap: nothing is written.
      const isKnown = end <= had.bytes;
      if (isKnown || had.isTruncated || offset !== had.bytes) {
        const answer = { isTaken: isKnown || had.isTruncated, ...answerOf(had) };
        return { draft, answer };
      }
      const isTruncated = end > this.#bytesMax;
      const log: RunLog = { attempt, bytes: isTruncated ? had.bytes : end, isTruncated };
      keep(draft, runId, before, log);
      if (!isTruncated) {
        const data = Buffer.from(bytes).toString('base64');
        draft.append(runLogName(runId), { attempt, offset, data }, LOG_KEEP_MAX);
      }
      return { draft, answer: { isTaken: true, ...answerOf(log) } };
    });
  }

  /** Chunks behind number `after`, oldest first; those of earlier attempts come before. */
  async read(
    runId: string,
    query: { readonly after: number; readonly limit: number },
  ): Promise<readonly ReadChunk[]> {
    const { entries } = await this.#repository.log(runLogName(runId), query);
    return entries.map(({ number, text }) => {
      const { attempt, offset, data } = v.parse(chunkSchema, JSON.parse(text));
      return { number, attempt, offset, bytes: Buffer.from(data, 'base64') };
    });
  }

  /** How much there is; undefined: nothing yet. */
  async size(runId: string): Promise<RunLog | undefined> {
    return (await this.#repository.get(RUN_LOG, runId))?.value;
  }
}

function newLog(attempt: number): RunLog {
  return { attempt, bytes: 0, isTruncated: false };
}

function answerOf({ bytes, isTruncated }: RunLog): Omit<LogAnswer, 'isTaken'> {
  return { nextOffset: bytes, isTruncated };
}

function keep(
  draft: Draft,
  runId: string,
  before: Versioned<RunLog> | undefined,
  log: RunLog,
): void {
  if (before === undefined) draft.create(RUN_LOG, runId, log);
  else draft.replace(RUN_LOG, before, log);
}
