import { readFileSync } from 'node:fs';

/**
 * A process that cannot be mistaken for a later one with the same number: which start of the computer, and
 * when since then. Source: job-dispatch.md section 9.3 (re-adoption).
 */
export interface ProcessIdentity {
  readonly pid: number;
  readonly bootId: string;
  /** Clock ticks from the start of the computer to that of the process. */
  readonly startTicks: number;
}

/** What /proc/<pid>/stat tells of a process. Source: proc(5). */
export interface ProcessStat {
  readonly pid: number;
  readonly parentPid: number;
  readonly groupId: number;
  readonly sessionId: number;
  readonly startTicks: number;
  /** Has ended, and its parent has not yet looked. */
  readonly isOver: boolean;
}

/** Drawn anew at each start of the computer. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** Undefined: there is no such process. */
export function statOf(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // Ended between being named and being looked at, or never was.
    return undefined;
  }
  // The second field is the program's name in parentheses and may hold anything, parentheses included.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state = '', parentPid, groupId, sessionId] = fields;
  return {
    pid,
    parentPid: Number(parentPid),
    groupId: Number(groupId),
    sessionId: Number(sessionId),
    startTicks: Number(fields[19]),
    isOver: state === 'Z' || state === 'X',
  };
}

/** Undefined: it has ended. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const stat = statOf(pid);
  if (stat === undefined || stat.isOver) return undefined;
  return { pid, bootId: bootId(), startTicks: stat.startTicks };
}

/** Whether that very process is still there. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.bootId !== bootId()) return false;
  const stat = statOf(identity.pid);
  return stat !== undefined && !stat.isOver && stat.startTicks === identity.startTicks;
}
