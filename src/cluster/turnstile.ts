/**
 * Lets so many in at once and has the others wait in line, so that a thousand listeners that come back
 * together do not make a thousand commands whose answers are all late.
 */
export class Turnstile {
  readonly #insideMax: number;
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #inside = 0;

  constructor(limits: { readonly insideMax: number; readonly waitingMax: number }) {
    this.#insideMax = limits.insideMax;
    this.#waitingMax = limits.waitingMax;
  }

  get isFull(): boolean {
    return this.#inside >= this.#insideMax && this.#waiting.length >= this.#waitingMax;
  }

  /** Runs the task when its turn comes. Ask `isFull` first: this waits however long the line is. */
  async pass<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#inside >= this.#insideMax) {
      await new Promise<void>(resolve => {
        this.#waiting.push(resolve);
      });
    } else {
      this.#inside += 1;
    }
    try {
      return await task();
    } finally {
      // The place goes to the next in line, or becomes free.
      const next = this.#waiting.shift();
      if (next === undefined) this.#inside -= 1;
      else next();
    }
  }
}
