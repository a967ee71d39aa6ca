import type { DispatchStore } from '../../src/store/dispatch-store.ts';

/**
 * A store as one process sees it that is killed at some point: the call at which it dies may have been done
 * or not, and is never answered, nor is any after it.
 */
export class KillableStore implements DispatchStore {
  readonly #store: DispatchStore;
  readonly #random: () => number;
  #callsLeft = Infinity;

  constructor(store: DispatchStore, random: () => number) {
    this.#store = store;
    this.#random = random;
  }

  get isDead(): boolean {
    return this.#callsLeft <= 0;
  }

  /** Dies in the call after so many more; 0: at once. */
  dieIn(calls: number): void {
    this.#callsLeft = Math.min(this.#callsLeft, calls);
  }

  get shown() {
    return this.#store.shown;
  }
  get isDurable() {
    return this.#store.isDurable;
  }
  get isShared() {
    return this.#store.isShared;
  }
  get durability() {
    return this.#store.durability;
  }

  get(...args: Parameters<DispatchStore['get']>) {
    return this.#call(() => this.#store.get(...args));
  }
  getMany(...args: Parameters<DispatchStore['getMany']>) {
    return this.#call(() => this.#store.getMany(...args));
  }
  range(...args: Parameters<DispatchStore['range']>) {
    return this.#call(() => this.#store.range(...args));
  }
  count(...args: Parameters<DispatchStore['count']>) {
    return this.#call(() => this.#store.count(...args));
  }
  score(...args: Parameters<DispatchStore['score']>) {
    return this.#call(() => this.#store.score(...args));
  }
  log(...args: Parameters<DispatchStore['log']>) {
    return this.#call(() => this.#store.log(...args));
  }
  step(...args: Parameters<DispatchStore['step']>) {
    return this.#call(() => this.#store.step(...args));
  }

  watch(onChange: Parameters<DispatchStore['watch']>[0]): () => void {
    return this.#store.watch((partition, topics) => {
      if (!this.isDead) onChange(partition, topics);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #call<Value>(run: () => Promise<Value>): Promise<Value> {
    if (this.isDead) return never();
    this.#callsLeft -= 1;
    if (!this.isDead) return run();
    if (this.#random() < 0.5) await run();
    return never();
  }
}

function never<Value>(): Promise<Value> {
  return new Promise(() => undefined);
}
