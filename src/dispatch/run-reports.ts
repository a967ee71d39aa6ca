import type { Clock } from '../base/clock.ts';
import { CANCEL_GRACE_SECONDS, OUTPUT_BYTES_MAX } from '../jobs/limits.ts';
import type { Hello, Progress, Renewed, Result } from '../jobs/messages.ts';
import { formatMoment } from './moments.ts';
import { suspendAfter } from './connection-suspension.ts';
import { Problem } from './problem.ts';
import { Draft, type Repository, type Versioned } from './repository.ts';
import type { Advanced, RunChanges } from './run-changes.ts';
import { outputKeyOf, removeOutput, writeOutput } from './run-outputs.ts';
import { RUN, type Run } from './run-record.ts';
import { FINAL_STATES, type RunEvent, type RunFault } from './run-state.ts';

/** One attempt of a run, as the machine names it. */
export interface Attempt {
  readonly runId: string;
  readonly attempt: number;
  readonly fence: number;
}

/** What the server makes of an entry of a machine's journal. */
export type Standing =
  /** Go on, and report. */
  | 'current'
  /** Its result is there: forget it. */
  | 'over'
  /** Somebody else has the run, or nobody: do not start it, stop it. */
  | 'lost';

const PROGRESS_KEEP = 100;
const IDS_AT_A_TIME = 500;

export function progressLog(runId: string): string {
  return `progress:${runId}`;
}

/**
 * What machines say of their runs. Every method throws `LeaseLost` for an attempt that is not the run's
 * latest or not this machine's: then it must not start, and must stop. All may be said again.
 */
export class RunReports {
  readonly #repository: Repository;
  readonly #changes: RunChanges;
  readonly #clock: Clock;

  constructor(repository: Repository, changes: RunChanges, clock: Clock) {
    this.#repository = repository;
    this.#changes = changes;
    this.#clock = clock;
  }

  /** Permission to launch, once for each attempt; the same process of the service may ask again. */
  async start(
    machineId: string,
    about: Attempt & { readonly instance: string; readonly agentVersion?: string | undefined },
  ): Promise<Renewed> {
    const { fence, instance, agentVersion } = about;
    const { run } = await this.#advance(machineId, about, {
      event: { type: 'start', fence, machineId, instance },
      more: after => ({ ...after, agentVersion: agentVersion ?? after.agentVersion }),
      entry: 'started',
    });
    return renewed(run.value);
  }

  /** Extends the lease, and tells what is wanted. `isLaunched`: the executor is up. */
  async renew(
    machineId: string,
    about: Attempt & { readonly isLaunched: boolean },
  ): Promise<Renewed> {
    const { fence, isLaunched } = about;
    if (isLaunched) {
      await this.#advance(machineId, about, {
        event: { type: 'launched', fence },
        entry: 'running',
      });
    }
    const { run } = await this.#advance(machineId, about, { event: { type: 'renewed', fence } });
    return renewed(run.value);
  }

  /** The service ended between permission and launch: nothing ran. */
  async startInterrupted(machineId: string, about: Attempt): Promise<void> {
    const { fence } = about;
    const event: RunEvent = { type: 'start-interrupted', fence };
    const run = await this.#changes.get(about.runId);
    // Told again after it was taken: the run waits, or is with somebody else.
    if (run.value.state === 'Queued' && run.value.fence === fence) return;
    await this.#advance(machineId, about, { event, entry: 'returnedToQueue' });
  }

  /** How it ended. Taken once; told again it is thanked for again. */
  async result(machineId: string, result: Result): Promise<Versioned<Run>> {
    const { fence } = result;
    const before = await this.#changes.get(result.runId);
    guard(machineId, result, before.value);
    const text = outputTextOf(result);
    const isTooLarge = Buffer.byteLength(text ?? '') > OUTPUT_BYTES_MAX;
    const status = isTooLarge ? 'Failed' : result.status;
    const fault = isTooLarge ? ({ code: 'OutputTooLarge' } as const) : faultOf(result);
    const wantsOutput = !FINAL_STATES.has(before.value.state) || before.value.state === 'Lost';
    const output =
      text === undefined || isTooLarge || !wantsOutput
        ? undefined
        : await writeOutput(this.#repository, outputKeyOf(result.runId, fence), text);
    try {
      const { run } = await this.#advance(machineId, result, {
        event: { type: 'result', fence, status, fault },
        more: after => (FINAL_STATES.has(after.state) ? withResult(after, result, output) : after),
        entry: 'completed',
      });
      return run;
    } catch (error) {
      // Nobody has the right to these outputs any more.
      if (error instanceof Problem && error.code === 'LeaseLost' && output !== undefined) {
        await removeOutput(this.#repository, output);
      }
      throw error;
    }
  }

  async progress(machineId: string, progress: Progress): Promise<void> {
    await this.#repository.change(async () => {
      const run = await this.#changes.get(progress.runId);
      guard(machineId, progress, run.value);
      if (FINAL_STATES.has(run.value.state)) throw new Problem('LeaseLost');
      const { step, done, total, text } = progress;
      const entry = { atMs: this.#clock.wallMs(), step, done, total, text };
      const draft = new Draft().unchanged(RUN, run);
      draft.append(progressLog(progress.runId), entry, PROGRESS_KEEP);
      return { draft, answer: undefined };
    });
  }

  /** What became of the runs in a machine's journal; in the journal's order. */
  async standings(
    machineId: string,
    journal: Hello['journal'],
  ): Promise<readonly { readonly runId: string; readonly standing: Standing }[]> {
    const ids = journal.map(({ runId }) => runId);
    const found: Versioned<Run>[] = [];
    for (let start = 0; start < ids.length; start += IDS_AT_A_TIME) {
      const some = ids.slice(start, start + IDS_AT_A_TIME);
      found.push(...(await this.#repository.getMany(RUN, some)));
    }
    const runs = new Map(found.map(({ id, value }) => [id, value]));
    return journal.map(entry => {
      const { runId } = entry;
      return { runId, standing: standingOf(machineId, entry, runs.get(runId)) };
    });
  }

  async #advance(
    machineId: string,
    about: Attempt,
    how: {
      readonly event: RunEvent;
      readonly more?: (after: Run) => Run;
      readonly entry?: 'started' | 'running' | 'returnedToQueue' | 'completed';
    },
  ): Promise<Advanced> {
    const advanced = await this.#changes.advance(about.runId, how.event, {
      guard: run => guard(machineId, about, run),
      ...(how.more === undefined ? {} : { more: how.more }),
      with: (draft, after) =>
        suspendAfter(draft, this.#repository, { ...after, machineId }, this.#clock.wallMs()),
      entry: after => {
        if (how.entry === undefined) return undefined;
        const isBad = how.entry === 'completed' && after.fault !== undefined;
        const { attempt, fault } = after;
        const type = isBad ? 'completedWithError' : how.entry;
        return { type, machineId, attempt, code: fault?.code, message: fault?.message };
      },
    });
    if (advanced.transition.type === 'refused') throw new Problem(advanced.transition.code);
    return advanced;
  }
}

/** Throws `LeaseLost`. */
export function guard(machineId: string, { attempt, fence }: Attempt, run: Run): void {
  const isTheirs = run.machineId === machineId && run.attempt === attempt && run.fence === fence;
  if (!isTheirs) throw new Problem('LeaseLost');
}

function standingOf(machineId: string, entry: Attempt, run: Run | undefined): Standing {
  if (run === undefined || run.machineId !== machineId || run.fence !== entry.fence) return 'lost';
  // The result of a lost run is still wanted.
  return FINAL_STATES.has(run.state) && run.state !== 'Lost' ? 'over' : 'current';
}

function renewed({ leaseUntilMs = 0, cancel }: Run): Renewed {
  return {
    v: 1,
    type: 'renewed',
    leaseUntil: formatMoment(leaseUntilMs),
    cancel: cancel === undefined ? null : { mode: cancel.mode, graceSeconds: CANCEL_GRACE_SECONDS },
  };
}

function outputTextOf({ outputs, sealedOutputs }: Result): string | undefined {
  if (outputs === undefined && sealedOutputs === undefined) return undefined;
  return JSON.stringify({ outputs: outputs ?? {}, sealedOutputs: sealedOutputs ?? {} });
}

function faultOf({ error }: Result): RunFault | undefined {
  return error === undefined ? undefined : { code: error.code, message: error.message };
}

function withResult(run: Run, result: Result, output: Run['output']): Run {
  return {
    ...run,
    accountName: result.accountName ?? run.accountName,
    exitCode: result.exitCode,
    innerError: result.error?.inner,
    cpuPercent: result.stats?.cpuPercent,
    memoryMb: result.stats?.memoryMb,
    output,
  };
}
