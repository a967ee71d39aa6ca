import type { Target } from './records.ts';
import type { Served } from './queue-keeper.ts';

const SWEEP_MS_MIN = 5_000;
const SWEEP_MS_MAX = 60_000;

/**
 * When queues that are blocked are looked at again, and whose change unblocks them. Hints, kept in memory:
 * after a restart every queue is looked at once.
 */
export class QueueTimes {
  readonly #delays = new Map<string, number>();
  readonly #machinesOf = new Map<string, readonly string[]>();
  readonly #queuesOf = new Map<string, Set<string>>();

  /** In how many ms to look again: when somebody may be asked again, else 5 to 60 s, longer each time. */
  blocked(queue: string, served: Extract<Served, { type: 'blocked' }>, nowMs: number): number {
    this.#watch(queue, served.machines);
    const before = served.claimed > 0 ? undefined : this.#delays.get(queue);
    const delayMs = Math.min(before === undefined ? SWEEP_MS_MIN : before * 2, SWEEP_MS_MAX);
    this.#delays.set(queue, delayMs);
    const { againAtMs } = served;
    return againAtMs === undefined ? delayMs : Math.min(delayMs, Math.max(1, againAtMs - nowMs));
  }

  forget(queue: string): void {
    this.#delays.delete(queue);
    this.#watch(queue, []);
  }

  /** Queues that a change of this machine may unblock. */
  blockedBy(machineId: string): readonly string[] {
    return [...(this.#queuesOf.get(machineId) ?? [])];
  }

  #watch(queue: string, machines: readonly string[]): void {
    for (const machine of this.#machinesOf.get(queue) ?? []) {
      const queues = this.#queuesOf.get(machine);
      queues?.delete(queue);
      if (queues?.size === 0) this.#queuesOf.delete(machine);
    }
    if (machines.length === 0) this.#machinesOf.delete(queue);
    else this.#machinesOf.set(queue, machines);
    for (const machine of machines) {
      const queues = this.#queuesOf.get(machine) ?? new Set();
      this.#queuesOf.set(machine, queues.add(queue));
    }
  }
}

export function isTarget(target: { readonly kind: string; readonly id: string }): target is Target {
  return (target.kind === 'machine' || target.kind === 'group') && target.id !== '';
}
