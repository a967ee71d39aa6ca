import { readFileSync } from 'node:fs';

/**
 * Time since it was made, less what the machine kept from this process and its children: the longest that any of them
 * was ready to run and had no processor (they wait side by side, so the sum would be too much). For promises of so
 * many seconds that are kept on a machine of their own, where tests share theirs. Where Linux does not tell, nothing
 * is taken off.
 */
export class OwnTime {
  readonly #startedAtMs = performance.now();
  readonly #waitedBefore = waits();

  /** Milliseconds by the clock. */
  get wallMs(): number {
    return performance.now() - this.#startedAtMs;
  }

  /** Milliseconds without the waits. */
  get passedMs(): number {
    const waited = [...waits()].map(([pid, ms]) => ms - (this.#waitedBefore.get(pid) ?? 0));
    return this.wallMs - Math.max(...waited);
  }
}

/** Milliseconds that the main thread of this process, and of each child, has waited for a processor in its life. */
function waits(): ReadonlyMap<string, number> {
  const own = String(process.pid);
  const all = [own, ...read(`/proc/${own}/task/${own}/children`)];
  return new Map(all.map(pid => [pid, Number(read(`/proc/${pid}/schedstat`)[1] ?? 0) / 1e6]));
}

/** Words of a file of the kernel; none where it is not, or is no more. */
function read(path: string): readonly string[] {
  try {
    return readFileSync(path, 'latin1').trim().split(/\s+/).filter(Boolean);
  } catch {
    return [];
  }
}
