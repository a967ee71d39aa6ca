import type { Clock } from '../base/clock.ts';

/** How long a node may be without a link before that is a reason for concern: dialling takes a moment. */
const UNLINKED_GRACE_MS = 5_000;

/**
 * Live nodes that this one cannot speak to: a wrong secret, an address that leads nowhere, a line that is
 * cut. Their listeners cannot be asked from here, and ours not from there.
 */
export class UnlinkedNodes {
  readonly #clock: Clock;
  /** Since when, by node. */
  readonly #since = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  joined(node: string): void {
    if (!this.#since.has(node)) this.#since.set(node, this.#clock.nowMs());
  }

  linked(node: string): void {
    this.#since.delete(node);
  }

  gone(node: string): void {
    this.#since.delete(node);
  }

  /** Those that have been without a link for too long, by name. */
  names(): readonly string[] {
    const latestMs = this.#clock.nowMs() - UNLINKED_GRACE_MS;
    return [...this.#since]
      .filter(([, sinceMs]) => sinceMs <= latestMs)
      .map(([node]) => node)
      .toSorted();
  }
}
