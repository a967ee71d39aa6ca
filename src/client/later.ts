/** A promise and what fulfils it, for what becomes known in a callback. */
export class Later<T> {
  readonly promise: Promise<T>;
  #resolve: ((value: T) => void) | undefined;

  constructor() {
    this.promise = new Promise(resolve => {
      this.#resolve = resolve;
    });
  }

  /** The first call counts. */
  resolve(value: T): void {
    this.#resolve?.(value);
  }
}
