/** So many empty places at the start are not worth a move. */
const EMPTY_PLACES_MIN = 256;

/**
 * First in, first out, with a look at any place. Each operation takes the same time on average,
 * however many wait, and what was taken is let go of at once.
 */
export class Queue<T extends object> {
  #items: (T | undefined)[] = [];
  /** Where the first item is; places before it are empty. */
  #first = 0;

  get length(): number {
    return this.#items.length - this.#first;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** The item so many places behind the first; undefined: there are not so many. */
  at(index: number): T | undefined {
    return index < 0 ? undefined : this.#items[this.#first + index];
  }

  /** Takes the first `count` items, or all when there are fewer; returns the last of them. */
  shift(count = 1): T | undefined {
    const end = Math.min(this.#first + count, this.#items.length);
    const last = end > this.#first ? this.#items[end - 1] : undefined;
    this.#items.fill(undefined, this.#first, end);
    this.#first = end;
    // Moved only when at least half is empty, so that an item is moved once for each that was taken.
    if (this.#first >= EMPTY_PLACES_MIN && this.#first * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return last;
  }
}
