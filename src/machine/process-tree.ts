import { readdirSync, readFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { statOf, type ProcessStat } from './process-identity.ts';
import { pause } from './retry.ts';

/** How the processes of a run are told from others. */
export interface TreeMarks {
  /** Roots: they and all that descend from them, in whichever group or session that is by now. */
  readonly pids: readonly number[];
  /** Of processes that left their parents: an entry `NAME=value` of the environment that only they have. */
  readonly variable: string;
}

const ROUNDS_MAX = 50;
const ROUND_MS = 20;

/** The processes of a tree that are there now, without this one. */
export function processesOf({ pids, variable }: TreeMarks): readonly ProcessStat[] {
  const all = allProcesses();
  const roots = new Set(pids);
  const found = new Map<number, ProcessStat>();
  for (const stat of all) {
    const isMarked =
      roots.has(stat.pid) ||
      // Who was started by the root and whose parent has ended still has its group or session.
      roots.has(stat.groupId) ||
      roots.has(stat.sessionId) ||
      hasVariable(stat.pid, variable);
    if (isMarked) found.set(stat.pid, stat);
  }
  const children = new Map<number, ProcessStat[]>();
  for (const stat of all) {
    const siblings = children.get(stat.parentPid);
    if (siblings === undefined) children.set(stat.parentPid, [stat]);
    else siblings.push(stat);
  }
  const queue = [...found.keys()];
  for (const pid of queue) {
    for (const child of children.get(pid) ?? []) {
      if (found.has(child.pid)) continue;
      found.set(child.pid, child);
      queue.push(child.pid);
    }
  }
  found.delete(process.pid);
  return [...found.values()].filter(({ isOver }) => !isOver);
}

/** Sends a signal to the whole tree; processes of other accounts are passed over. */
export function signalTree(marks: TreeMarks, signal: NodeJS.Signals): readonly ProcessStat[] {
  const processes = processesOf(marks);
  for (const { pid } of processes) signalProcess(pid, signal);
  return processes;
}

/**
 * Ends a tree, again and again while it grows. What changed its session, its parent and its environment
 * all at once is not found. Resolves with whether nothing of it is left.
 */
export async function killTree(marks: TreeMarks, clock: Clock): Promise<boolean> {
  const { signal } = new AbortController();
  // Stopped first, so that none can start another while the others are looked for.
  signalTree(marks, 'SIGSTOP');
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    if (signalTree(marks, 'SIGKILL').length === 0) return true;
    await pause(clock, ROUND_MS, signal);
  }
  return false;
}

export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Ended meanwhile, or it is another account's: who may end that one does.
  }
}

function allProcesses(): readonly ProcessStat[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(name => statOf(Number(name)))
    .filter(stat => stat !== undefined);
}

function hasVariable(pid: number, variable: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(variable);
  } catch {
    // Another account's, or it has ended.
    return false;
  }
}
