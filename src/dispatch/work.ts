/** Promises under way, so that a stop can wait for them. */
export class Work {
  readonly #under = new Set<Promise<unknown>>();
  #isStopped = false;

  get isStopped(): boolean {
    return this.#isStopped;
  }

  track<Value>(promise: Promise<Value>): Promise<Value> {
    const over = promise.then(
      () => void this.#under.delete(over),
      () => void this.#under.delete(over),
    );
    this.#under.add(over);
    return promise;
  }

  /** Nothing new begins; resolves when all that is under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    while (this.#under.size > 0) await Promise.all(this.#under);
  }
}
