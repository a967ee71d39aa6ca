import * as v from 'valibot';
import { JOURNAL_KEEP_MS } from '../jobs/limits.ts';
import { modeSchema } from '../jobs/messages.ts';

// What the lines of a machine's journal add up to; pure. Source: job-dispatch.md section 9.3.

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const attempt = { runId: v.string(), attempt: count, fence: count };

const identitySchema = v.object({ pid: count, bootId: v.string(), startTicks: count });

/** One line. A state is reached when its line is on disk, and not before. */
export const journalLineSchema = v.variant('type', [
  v.object({
    type: v.literal('ACCEPTED'),
    ...attempt,
    mode: modeSchema,
    jobRef: v.string(),
    atMs: count,
  }),
  v.object({ type: v.literal('GRANTED'), ...attempt }),
  v.object({
    type: v.literal('LAUNCHED'),
    ...attempt,
    executor: identitySchema,
    /** What started it and waits for it, where that is a process of its own. */
    launcher: v.optional(identitySchema),
    accountName: v.string(),
    /** Wall clock. */
    atMs: count,
  }),
  v.object({ type: v.literal('RESULT'), ...attempt }),
  v.object({ type: v.literal('OVER'), ...attempt, atMs: count }),
  /** The highest version of a connection's credentials that was opened here. */
  v.object({ type: v.literal('VERSION'), connectionId: v.string(), version: count }),
]);
export type JournalLine = v.InferOutput<typeof journalLineSchema>;

type Accepted = Extract<JournalLine, { type: 'ACCEPTED' }>;
type Launched = Extract<JournalLine, { type: 'LAUNCHED' }>;

/** An attempt that this machine has in hand. */
export interface JournalEntry extends Omit<Accepted, 'type'> {
  readonly state: 'ACCEPTED' | 'GRANTED' | 'LAUNCHED' | 'RESULT';
  readonly launched: Launched | undefined;
}

const RANK = { ACCEPTED: 0, GRANTED: 1, LAUNCHED: 2, RESULT: 3 } as const;

/** Attempts in hand, fences and credential versions, made by taking lines in their order. */
export class JournalState {
  /** By run id and fence. */
  readonly #entries = new Map<string, JournalEntry>();
  readonly #over = new Map<string, Extract<JournalLine, { type: 'OVER' }>>();
  readonly #fences = new Map<string, number>();
  readonly #versions = new Map<string, number>();

  /** False: the line does not fit what came before (damage); it changes nothing. */
  take(line: JournalLine): boolean {
    if (line.type === 'VERSION') {
      const known = this.#versions.get(line.connectionId) ?? 0;
      this.#versions.set(line.connectionId, Math.max(known, line.version));
      return true;
    }
    const key = keyOf(line);
    this.#fences.set(line.runId, Math.max(line.fence, this.fenceOf(line.runId)));
    if (line.type === 'OVER') {
      this.#entries.delete(key);
      this.#over.set(key, line);
      return true;
    }
    const entry = this.#entries.get(key);
    if (line.type === 'ACCEPTED') {
      if (entry !== undefined || this.#over.has(key)) return false;
      const { type: state, ...rest } = line;
      this.#entries.set(key, { ...rest, state, launched: undefined });
      return true;
    }
    if (entry === undefined || RANK[line.type] <= RANK[entry.state]) return false;
    const launched = line.type === 'LAUNCHED' ? line : entry.launched;
    this.#entries.set(key, { ...entry, state: line.type, launched });
    return true;
  }

  entries(): readonly JournalEntry[] {
    return [...this.#entries.values()];
  }

  entry(about: { readonly runId: string; readonly fence: number }): JournalEntry | undefined {
    return this.#entries.get(keyOf(about));
  }

  /** Was accepted here and is done with. */
  isOver(about: { readonly runId: string; readonly fence: number }): boolean {
    return this.#over.has(keyOf(about));
  }

  /** The highest that was seen of a run; 0: none. */
  fenceOf(runId: string): number {
    return this.#fences.get(runId) ?? 0;
  }

  /** The highest version that was opened of a connection; 0: none. */
  versionOf(connectionId: string): number {
    return this.#versions.get(connectionId) ?? 0;
  }

  /** Lines that add up to the same, without what has been over for long enough. Versions are kept for good. */
  lines(nowMs: number): readonly JournalLine[] {
    const lines: JournalLine[] = [];
    for (const [connectionId, version] of this.#versions) {
      lines.push({ type: 'VERSION', connectionId, version });
    }
    for (const line of this.#over.values()) {
      if (line.atMs + JOURNAL_KEEP_MS >= nowMs) lines.push(line);
    }
    for (const { state, launched, ...accepted } of this.#entries.values()) {
      const { runId, attempt: number, fence } = accepted;
      const about = { runId, attempt: number, fence };
      lines.push({ type: 'ACCEPTED', ...accepted });
      if (RANK[state] >= RANK.GRANTED) lines.push({ type: 'GRANTED', ...about });
      if (launched !== undefined) lines.push(launched);
      if (state === 'RESULT') lines.push({ type: 'RESULT', ...about });
    }
    return lines;
  }
}

function keyOf({ runId, fence }: { readonly runId: string; readonly fence: number }): string {
  return `${runId} ${fence}`;
}
