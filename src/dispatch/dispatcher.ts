import type { CancelTimer } from '../base/clock.ts';
import { EnvironmentDispatch, type DispatcherParts } from './environment-dispatch.ts';
import { COMMON_PARTITION } from './records.ts';
import { Repository } from './repository.ts';
import type { Run } from './run-record.ts';

/** Environments are looked for again, and all queues served, so that nothing waits on a hint that was lost. */
const LOOK_AGAIN_MS = 60_000;
/** Leases and deadlines are looked at so often. */
const SWEEP_MS = 2_000;
const ENVIRONMENTS_MAX = 1_000;

/**
 * Brings queued runs to machines, in all environments. Several may work on one store: whatever they do is
 * decided by the store's steps. All it knows is in the store; whoever kills it loses nothing.
 */
export class Dispatcher {
  readonly #parts: DispatcherParts;
  readonly #environments = new Map<string, EnvironmentDispatch>();
  #stopWatching: (() => void) | undefined;
  #cancelLook: CancelTimer | undefined;
  #cancelSweep: CancelTimer | undefined;
  #isStopped = false;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  /** Resolves when all that waits has been looked at once, or could not be. */
  async start(): Promise<void> {
    this.#stopWatching = this.#parts.store.watch(
      (partition, topics) => this.#onChange(partition, topics),
      () => void this.#lookAtAll(),
    );
    this.#cancelSweep = this.#parts.clock.after(SWEEP_MS, () => void this.#sweepAgain());
    await this.#lookAtAll();
  }

  /** Takes nothing new up; resolves when what is under way has ended. Safe to call twice. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#stopWatching?.();
    this.#cancelLook?.();
    this.#cancelSweep?.();
    await Promise.all([...this.#environments.values()].map(one => one.stop()));
  }

  /** Tells the machine of a run at once that it is to end. */
  pushCancel(environment: string, run: Run): void {
    if (!this.#isStopped) this.#environment(environment).pushCancel(run);
  }

  #onChange(partition: string, topics: readonly string[]): void {
    if (this.#isStopped) return;
    if (partition !== COMMON_PARTITION) this.#environment(partition).onTopics(topics);
    else if (topics.includes('environment')) void this.#lookAtAll();
  }

  async #lookAtAll(): Promise<void> {
    this.#cancelLook?.();
    if (this.#isStopped) return;
    try {
      const common = new Repository(this.#parts.store, COMMON_PARTITION);
      const entries = await common.range('environments', { limit: ENVIRONMENTS_MAX });
      const known = entries.map(({ member }) => this.#environment(member));
      await Promise.all(known.map(environment => environment.lookAtAll()));
    } catch (error) {
      this.#parts.log.warn({ err: error }, 'queues could not be looked at');
    }
    if (this.#isStopped) return;
    this.#cancelLook?.();
    this.#cancelLook = this.#parts.clock.after(LOOK_AGAIN_MS, () => void this.#lookAtAll());
  }

  async #sweepAgain(): Promise<void> {
    for (const environment of this.#environments.values()) {
      try {
        await environment.sweep();
      } catch (error) {
        this.#parts.log.warn({ err: error }, 'leases and deadlines could not be looked at');
      }
    }
    if (this.#isStopped) return;
    this.#cancelSweep = this.#parts.clock.after(SWEEP_MS, () => void this.#sweepAgain());
  }

  #environment(name: string): EnvironmentDispatch {
    const known = this.#environments.get(name);
    if (known !== undefined) return known;
    const made = new EnvironmentDispatch(this.#parts, name);
    this.#environments.set(name, made);
    return made;
  }
}
