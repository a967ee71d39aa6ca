import { PATIENCE_MS, within } from './within.ts';

/** What comes in, one after another, to be waited for. */
export class Inbox<T> {
  readonly #name: string;
  readonly #items: T[] = [];
  readonly #waiting: { resolve: (item: T) => void; reject: (error: Error) => void }[] = [];
  #end: Error | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** What has come and was not asked for yet. */
  get size(): number {
    return this.#items.length;
  }

  put(item: T): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#items.push(item);
    else waiter.resolve(item);
  }

  /** Nothing more will come: whoever waits, or asks once all is taken, gets `error`. */
  end(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#end);
  }

  async next(patienceMs = PATIENCE_MS): Promise<T> {
    const item = this.#items.shift();
    if (item !== undefined) return item;
    if (this.#end !== undefined) throw this.#end;
    const promise = new Promise<T>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
    return within(this.#name, promise, patienceMs);
  }
}
