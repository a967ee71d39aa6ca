import { LOST_GRACE_MS } from '../jobs/limits.ts';
import { queueScore } from './queue-order.ts';
import type { Target } from './records.ts';
import type { Draft } from './repository.ts';
import type { Run } from './run-record.ts';
import { FINAL_STATES, holdsSlot, type RunState } from './run-state.ts';

// Where a run stands in all indexes follows from the run alone. A step writes the run and the difference
// between the two answers, so no index ever says something else than the record.

export const RUNS_INDEX = 'runs';
/** What the reaper looks at next, by when: leases that end, with the grace that follows. */
export const LEASES_INDEX = 'leases';
/** When the queue time or the run time of a run is over. */
export const DEADLINES_INDEX = 'deadlines';
/** Runs that are over, by when. */
export const ENDED_INDEX = 'ended';
/** Queues that may have somebody waiting, as `machine:<id>` and `group:<id>`. */
export const QUEUES_INDEX = 'queues';
/** Machines by when the last run ended that had started on them. */
export const IDLE_INDEX = 'idle';

export function queueIndex({ kind, id }: Target): string {
  return `q:${kind}:${id}`;
}

/** Runs without a user and those with one have their own slots. */
export function slotsIndex(machineId: string, mode: Run['mode']): string {
  return mode === 'unattended' ? `slots:${machineId}` : `slots:${machineId}:attended`;
}

export function stateIndex(state: RunState): string {
  return `state:${state}`;
}

/** All runs of a connection, of a group, or of a machine: as their target, or because they are there. */
export function runsOfIndex(kind: 'connection' | 'machine' | 'group', id: string): string {
  return `runs-of:${kind}:${id}`;
}

/** Runs in a queue that need this connection. */
export function waitingOfIndex(connectionId: string): string {
  return `waiting:${connectionId}`;
}

/** Members of a group, each of which has proved its key. */
export function membersIndex(groupId: string): string {
  return `members:${groupId}`;
}

export function childrenIndex(parentRunId: string): string {
  return `children:${parentRunId}`;
}

/** Tests of a connection that a machine has now: one at a time, or a wrong password is tried everywhere at once. */
export function probingIndex(connectionId: string): string {
  return `probing:${connectionId}`;
}

/** The indexes that a run is in, and its score there. */
export function indexesOf(run: Run): ReadonlyMap<string, number> {
  const { state, queuedAtMs, target, machineId, parentRunId } = run;
  const indexes = new Map<string, number>([
    [RUNS_INDEX, queuedAtMs],
    [stateIndex(state), queuedAtMs],
    [runsOfIndex('connection', run.connectionId), queuedAtMs],
    [runsOfIndex(target.kind, target.id), queuedAtMs],
  ]);
  if (machineId !== undefined) indexes.set(runsOfIndex('machine', machineId), queuedAtMs);
  if (parentRunId !== undefined) indexes.set(childrenIndex(parentRunId), queuedAtMs);
  if (state === 'Queued') {
    indexes.set(queueIndex(target), run.topScore ?? queueScore(run.priority, queuedAtMs));
    indexes.set(waitingOfIndex(run.connectionId), queuedAtMs);
    indexes.set(DEADLINES_INDEX, run.queueUntilMs);
  }
  if (holdsSlot(state) && machineId !== undefined) {
    indexes.set(slotsIndex(machineId, run.mode), run.assignedAtMs ?? 0);
    if (run.jobKind === 'probe') indexes.set(probingIndex(run.connectionId), 0);
    const graceMs = state === 'Assigned' ? 0 : LOST_GRACE_MS;
    indexes.set(LEASES_INDEX, (run.leaseUntilMs ?? 0) + graceMs);
    const endsAtMs = (run.startedAtMs ?? 0) + run.runSeconds * 1_000;
    const isUnderWay = state !== 'Assigned' && state !== 'Cancelling';
    if (isUnderWay) indexes.set(DEADLINES_INDEX, endsAtMs);
  }
  if (FINAL_STATES.has(state)) indexes.set(ENDED_INDEX, run.endedAtMs ?? 0);
  return indexes;
}

/** Adds to a draft what moves a run from one place in the indexes to another; undefined: it is nowhere. */
export function moveInIndexes(draft: Draft, before: Run | undefined, after: Run | undefined): void {
  const [from, to] = [before, after].map(run => (run === undefined ? new Map() : indexesOf(run)));
  const id = (after ?? before)?.id ?? '';
  for (const index of from?.keys() ?? []) if (to?.has(index) !== true) draft.drop(index, id);
  for (const [index, score] of to ?? [])
    if (from?.get(index) !== score) draft.add(index, id, score);
  if (after?.state === 'Queued' && before?.state !== 'Queued') {
    draft.add(QUEUES_INDEX, `${after.target.kind}:${after.target.id}`, 0);
  }
  const hasWorked = before?.startedAtMs !== undefined && holdsSlot(before.state);
  if (before?.machineId !== undefined && hasWorked && !holdsSlot(after?.state ?? 'Lost')) {
    draft.add(IDLE_INDEX, before.machineId, after?.endedAtMs ?? 0);
  }
}
