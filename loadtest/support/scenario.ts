import type { ParticipantName } from '../subjects/subject.ts';

export interface ScenarioOptions {
  /** One short round: shows that everything works, not how fast. */
  readonly isQuick: boolean;
  /** Leaves out other subjects; all when undefined. */
  readonly only: ReadonlySet<ParticipantName> | undefined;
  /** Says what is going on; nothing of it is a result. */
  readonly progress: (text: string) => void;
}

export type Cell = string | number;

/** What a scenario measured: one table, for people and (`--json`) for programs. */
export interface Result {
  readonly scenario: string;
  /** Repeats the measurement. */
  readonly command: string;
  /** What the numbers are, in a sentence or two. */
  readonly about: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  readonly notes: readonly string[];
}

export interface Scenario {
  readonly name: string;
  readonly run: (options: ScenarioOptions) => Promise<Result>;
}

/** Whether a subject takes part in this run. */
export function takesPart(options: ScenarioOptions, name: ParticipantName): boolean {
  return options.only === undefined || options.only.has(name);
}
