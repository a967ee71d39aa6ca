import type { Clock } from '../base/clock.ts';
import type { Coordinator } from './coordinator.ts';
import type { Attempt } from './health.ts';
import type { Lease } from './lease.ts';
import { SUSPICIONS_MAX, type DirectoryTimes } from './limits.ts';
import type { SuspicionResult } from './listener-directory.ts';

export interface SuspicionsDeps {
  readonly coordinator: Coordinator;
  readonly clock: Clock;
  readonly times: DirectoryTimes;
  readonly lease: Lease;
  readonly attempt: Attempt;
  /** Whether the directory has the node. */
  readonly isKnown: (node: string) => boolean;
}

/** Nodes that may be dead: each is asked through the feed to show that it lives, or loses its lease. */
export class Suspicions {
  readonly #deps: SuspicionsDeps;
  readonly #open = new Map<string, Promise<SuspicionResult>>();
  /** Of whom nothing could be decided: looked at when it can. */
  readonly #undecided = new Set<string>();
  /** Nodes that lost their lease this way. */
  expelled = 0;

  constructor(deps: SuspicionsDeps) {
    this.#deps = deps;
  }

  async suspect(node: string): Promise<SuspicionResult> {
    const open = this.#open.get(node);
    if (open !== undefined) return open;
    const suspicion = this.#decide(node);
    this.#open.set(node, suspicion);
    try {
      return await suspicion;
    } finally {
      this.#open.delete(node);
    }
  }

  /** Decides what could not be decided before; to be called when the coordinator was of use. */
  async again(): Promise<void> {
    if (this.#undecided.size === 0 || !this.#deps.lease.mayExpelOthers) return;
    const nodes = [...this.#undecided];
    this.#undecided.clear();
    await Promise.all(nodes.map(async node => this.suspect(node)));
  }

  /** The node has shown that it lives. */
  clear(node: string): void {
    this.#undecided.delete(node);
  }

  /** What the coordinator has of these nodes contradicts itself: they are asked to put it right. */
  async doubt(nodes: readonly string[]): Promise<void> {
    const { attempt, coordinator } = this.#deps;
    for (const node of nodes.slice(0, SUSPICIONS_MAX)) {
      await attempt(() => coordinator.challenge(node));
    }
  }

  async #decide(node: string): Promise<SuspicionResult> {
    const mayDecide = this.#open.size < SUSPICIONS_MAX && this.#deps.lease.mayExpelOthers;
    const verdict = mayDecide ? await this.#challenge(node) : 'unknown';
    if (verdict === 'unknown' && this.#undecided.size < SUSPICIONS_MAX) this.#undecided.add(node);
    return verdict;
  }

  async #challenge(node: string): Promise<SuspicionResult> {
    const { attempt, clock, coordinator, isKnown, lease, times } = this.#deps;
    const removed = await attempt(async () => {
      const seen = await coordinator.challenge(node);
      if (seen === undefined) return 1;
      await new Promise<void>(resolve => {
        clock.after(times.suspicionGraceMs, resolve);
      });
      // What we missed ourselves meanwhile may have been the coordinator's fault.
      if (!lease.mayExpelOthers) return undefined;
      const count = await coordinator.removeNodes([seen], 'expelled');
      this.expelled += count;
      return count;
    });
    if (removed === undefined) return 'unknown';
    return removed > 0 || !isKnown(node) ? 'gone' : 'alive';
  }
}
