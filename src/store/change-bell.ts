import type { OnChange, Partition } from './dispatch-store.ts';

/** Tells the watchers of a `DispatchStore` within this process; changes of one turn are told as one. */
export class ChangeBell {
  readonly #watchers = new Set<{ readonly onChange: OnChange; readonly onGap: () => void }>();
  #untold = new Map<Partition, Set<string>>();

  get isWatched(): boolean {
    return this.#watchers.size > 0;
  }

  watch(onChange: OnChange, onGap: () => void = () => undefined): () => void {
    // The same function may watch twice.
    const watcher = { onChange, onGap };
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  ring(partition: Partition, topics: readonly string[]): void {
    if (this.#watchers.size === 0 || topics.length === 0) return;
    if (this.#untold.size === 0) queueMicrotask(() => this.#tell());
    const untold = this.#untold.get(partition) ?? new Set();
    for (const topic of topics) untold.add(topic);
    this.#untold.set(partition, untold);
  }

  ringGap(): void {
    for (const { onGap } of this.#watchers) onGap();
  }

  close(): void {
    this.#watchers.clear();
  }

  #tell(): void {
    const untold = this.#untold;
    this.#untold = new Map();
    for (const { onChange } of this.#watchers) {
      for (const [partition, topics] of untold) onChange(partition, [...topics]);
    }
  }
}
