import { WARNINGS_MAX } from './limits.ts';
import type { DegradedReason, DirectoryEvent } from './listener-directory.ts';

/** Runs a step at the coordinator; its failure there becomes a state of health, and undefined. */
export type Attempt = <Result>(take: () => Promise<Result>) => Promise<Result | undefined>;

/** What is wrong with a directory now, and what an operator should put right. Tells only of changes. */
export class DirectoryHealth {
  readonly #emit: (event: DirectoryEvent) => void;
  readonly #reasons = new Set<DegradedReason>();
  readonly #warnings = new Set<string>();

  constructor(emit: (event: DirectoryEvent) => void) {
    this.#emit = emit;
  }

  get reasons(): readonly DegradedReason[] {
    return [...this.#reasons];
  }

  get warnings(): readonly string[] {
    return [...this.#warnings];
  }

  has(reason: DegradedReason): boolean {
    return this.#reasons.has(reason);
  }

  degrade(reason: DegradedReason): void {
    if (this.#reasons.has(reason)) return;
    this.#reasons.add(reason);
    this.#emit({ type: 'degraded', reasons: this.reasons });
  }

  recover(...reasons: readonly DegradedReason[]): void {
    const recovered = reasons.filter(reason => this.#reasons.delete(reason));
    if (recovered.length === 0) return;
    if (this.#reasons.size === 0) this.#emit({ type: 'healthy' });
    else this.#emit({ type: 'degraded', reasons: this.reasons });
  }

  /** Keeps a warning and tells of it once. When there are too many, the oldest is forgotten. */
  warn(message: string): void {
    if (this.#warnings.has(message)) return;
    const [oldest] = this.#warnings;
    if (this.#warnings.size >= WARNINGS_MAX && oldest !== undefined) this.#warnings.delete(oldest);
    this.#warnings.add(message);
    this.#emit({ type: 'warning', message });
  }

  /** What was warned of is said again if it is still so. */
  forgetWarnings(): void {
    this.#warnings.clear();
  }
}
